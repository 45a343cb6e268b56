"""The section on an experiment on recommendation: its tables, its figures, and what its text is composed from."""

from typing import Any

from frugal.report.recommendation.figures import DRAWINGS
from frugal.report.recommendation.findings import METRIC, findings, headline, without_sse
from frugal.report.recommendation.layouts import LAYOUTS
from frugal.report.recommendation.literature import anchors, uniform_ratio
from frugal.report.recommendation.protocol import comparable
from frugal.report.recommendation.protocol import protocol as data_of
from frugal.report.recommendation.tables import BUILDERS, data, starting_point
from frugal.report.results import ExperimentResults
from frugal.report.tables import Column
from frugal.report.wording import Tables, known, resolution, row_of, rows_of

__all__ = [
    "BUILDERS",
    "COMPARED",
    "DRAWINGS",
    "LAYOUTS",
    "SCORES",
    "SPEED",
    "context",
    "data_of",
    "findings",
    "headline",
    "threats",
]

#: Names of layers that are not those of the models as published.
LAYERS = {"ligr": "LiGR layers", "hstu": "HSTU layers"}
#: What runs of several studies are compared by.
SCORES = (
    Column("HR@10", "HR@10", ".4f", interval=True, spread=True),
    Column("NDCG@10", "NDCG@10", ".4f", interval=True, spread=True),
)
#: The one of them that a sentence names.
COMPARED = SCORES[1]
SPEED = ("target_positions_per_second", "Targets per second")


def context(experiment: ExperimentResults, tables: Tables) -> dict[str, Any]:
    """What the section's template names beside what all have."""
    return {
        "without_sse": without_sse(experiment),
        "ordered": all(row["ordered"] != "no" for row in data(experiment)),
        # A table that has no rows in this study is left out; one that is not there is said to be missing.
        "empty": [part for part, table in tables.items() if table is not None and table.frame.empty],
        "kept": any((run.record or {}).get("history") == "keep" for run in experiment.trained),
        "left_out": [(run.label, run.left_out) for run in experiment.runs if run.left_out],
        "warm_starts": warm_starts(experiment),
        "ratios": ratios(experiment),
        "anchors": anchors(),
        "uniform_ratio": uniform_ratio(),
    }


def warm_starts(experiment: ExperimentResults) -> list[dict[str, Any]]:
    """The runs that start from other weights: where from, and which tensors were taken and which were not."""
    found = []
    for run in experiment.trained:
        start = (run.config or {}).get("warm_start")
        if start:
            seeds = (run.training.get("by_seed") or {}).values()
            record = next((seed["warm_start"] for seed in seeds if seed.get("warm_start")), {})
            skipped = [f"{entry['name']} ({entry['reason']})" for entry in record.get("skipped") or ()]
            found.append({"system": run.label, "source": starting_point(start), "record": record, "skipped": skipped})
    return found


def ratios(experiment: ExperimentResults) -> list[float]:
    """NDCG@10 over HR@10 of every system with hits, smallest first."""
    known = [run.metrics for run in comparable(experiment) if run.metrics.get("HR@10")]
    return sorted(metrics["NDCG@10"] / metrics["HR@10"] for metrics in known if "NDCG@10" in metrics)


def threats(experiment: ExperimentResults, tables: Tables) -> list[str]:
    """What limits this experiment, of what its kind alone has."""
    run = experiment.principal
    settings, found = run.section("data"), []
    if settings.get("split") == "leave_one_out":
        found.append(
            "Each user's last item is left out, whenever it came: models learn from other users' later interactions, "
            "which no recommender in use could."
        )
    for row in data(experiment):
        if row.get("tied_targets"):
            found.append(
                f"In {row['dataset']}, {row['tied_targets']:.1%} of the test targets have the time of another "
                f"interaction of their user; what came last is not known there (order of ties: {row['tie_order']})."
            )
        if row["ordered"] == "no":
            found.append(f"{row['dataset']} has no order in time: the next item is any item.")
    if str(run.config["dataset"]).startswith("movielens"):
        found.append("The histories are in the order in which films were rated, which need not be that of watching.")
    limits = [f"{settings['max_users']:,d} users" if settings.get("max_users") else ""]
    limits += [f"{100 * settings['fraction']:g} % of the shards" if (settings.get("fraction") or 1) < 1 else ""]
    if any(limits):
        found.append(f"Only a part of the data is used: {' and '.join(filter(None, limits))}.")
    shape = run.section("model")
    changes = ["rotary positions"] * (shape.get("positions") == "rotary")
    changes += [LAYERS[shape["layers"]]] if shape.get("layers") in LAYERS else []
    changes += ["scores that are cosines"] * (shape.get("score") == "cosine")
    if changes:
        found.append(f"{run.name} has {' and '.join(changes)}: its scores are not those of the model as published.")
    if run.section("loss").get("name", "cross_entropy") != "cross_entropy":
        found.append("The loss of the principal model is over sampled items, an approximation of the whole catalogue.")
    training = rows_of(tables, "training")
    row = row_of(training, run=run.name)
    if known(row, "stopped", "seeds") and row["stopped"] < row["seeds"]:
        found.append(
            f"{row['seeds'] - row['stopped']:.0f} of {row['seeds']:.0f} trainings of {run.name} used up their epochs "
            "before validation stopped improving: longer ones might rank better."
        )
    tests = rows_of(tables, "tests")
    baselines = tests[tests["role"] == "baseline"].dropna(subset=["difference"]) if "difference" in tests else tests
    if len(baselines):
        nearest = baselines.loc[baselines["difference"].astype(float).idxmin()]
        found += resolution(nearest, f"{nearest['second']} in {METRIC}", ".4f")
    return found
