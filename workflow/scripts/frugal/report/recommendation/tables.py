"""The tables of an experiment on recommendation, from its result files."""

import re
from dataclasses import replace
from typing import Any

import pandas as pd

from frugal.report.contents import EFFICIENCY
from frugal.report.frames import (
    Builder,
    Rows,
    compared,
    machine,
    metric_values,
    provenance,
    tie_order,
    training_values,
)
from frugal.report.recommendation import SIZE
from frugal.report.recommendation.groups import beyond, groups
from frugal.report.recommendation.layouts import LAYOUTS
from frugal.report.recommendation.protocol import comparable, named, protocol, split_name
from frugal.report.results import ExperimentResults, Run
from frugal.stats import Comparison, compare

#: What modes are compared with.
FULL_PRECISION = ("float32", "fp32")
#: What remains of a measurement that failed.
FAILED = ("hardware", "size", "mode", "error")


def _several_targets(run: Run) -> bool:
    """Whether a user may have several targets; with one, recall is the hit rate again."""
    source = run.experiment.principal if run.role == "baseline" else run
    data = source.section("data") if source is not None else {}
    return data.get("split") == "files" or (data.get("split") == "global_time" and data.get("targets") in (None, "all"))


def data(experiment: ExperimentResults) -> Rows:
    """One row a data set and split: what was prepared of it, and who is tested."""
    rows: dict[str | None, dict[str, Any]] = {}
    for run in experiment.trained:
        settings, dataset = run.section("data"), (run.config or {}).get("dataset")
        summary = experiment.summary(dataset) if dataset else {}
        users, interactions = summary.get("users"), summary.get("rows_kept")
        ordered = summary.get("ordered", summary.get("first_timestamp") is not None)
        split = "as published" if summary and not ordered else split_name(settings) if run.config else None
        row = {
            "dataset": dataset,
            "split": split,
            "users": users,
            "items": summary.get("items"),
            "interactions": interactions,
            "mean_length": interactions / users if users and interactions else None,
            "ordered": _order(summary, ordered) if summary else None,
            "tie_order": tie_order(summary),
            "without_history": _without_history(summary),
        } | {name: settings.get(name) for name in ("min_rating", "max_users", "fraction")}
        row = rows.setdefault(protocol(run), row)
        record = run.record or {}
        row["cases"] = row.get("cases") or record.get("cases")
        if counts := record.get("targets"):
            row |= {name: counts[name] / counts["targets"] for name in ("repeated", "cold") if counts["targets"]}
            row["history"] = {"keep": "ranked", "exclude": "left out"}[record["history"]]
        if ties := record.get("ties"):
            row |= {"tied_targets": ties["evaluation"], "tied_steps": ties["elsewhere"]}
    return list(rows.values())


def _without_history(summary: dict[str, Any]) -> float | None:
    """The share of the test interactions whose users are in no earlier file of the data set's own split."""
    split = summary.get("split")
    return split["without_history"]["test"] / split["rows"]["test"] if split else None


def _order(summary: dict[str, Any], ordered: bool) -> str:
    if not ordered:
        return "no"
    return "that of the file" if summary.get("timestamps") is False else "yes"


def ranking(experiment: ExperimentResults) -> Rows:
    """The metrics of every system."""
    columns = [c for c in LAYOUTS["ranking"].columns if "@" in c.name or c.name == "MRR"]
    rows = []
    for run in experiment.runs:
        shown = [c for c in columns if c.name != "recall@10" or _several_targets(run)]
        seeds = len(run.by_seed) if run.role == "trained" else None
        rows.append(named(run) | {"seeds": seeds or None} | metric_values(run, shown))
    return rows


def cutoffs(experiment: ExperimentResults) -> Rows:
    """The metrics at every cut-off but ten, smallest first."""
    runs = [run for run in experiment.runs if run.metrics]
    known = {int(name[3:]) for run in runs for name in run.metrics if re.fullmatch(r"HR@\d+", name)}
    rows, layout = [], LAYOUTS["cutoffs"]
    for k in sorted(known - {10}):
        for run in runs:
            row = named(run) | {"k": k}
            for column in (c for c in layout.columns if c.name in ("HR", "NDCG", "recall", "coverage")):
                if column.name != "recall" or _several_targets(run):
                    values = metric_values(run, [replace(column, name=f"{column.name}@{k}")])
                    row |= {name.replace(f"@{k}", ""): value for name, value in values.items()}
            rows.append(row)
    return rows


def user_values(run: Run, name: str = "NDCG@10") -> pd.Series | None:
    """A metric of each test user, the mean over seeds; None without predictions."""
    if run.predictions is None or run.predictions.empty:
        return None
    return run.predictions.groupby("user")[name].mean()


def comparison(first: Run, second: Run) -> Comparison | None:
    """First minus second in the users' NDCG@10; None where one of them is missing."""
    sides = [user_values(run) for run in (first, second)]
    return None if any(side is None for side in sides) else compare(*sides)


def _relative(found: Comparison | None, principal: Run, second: Run) -> float | None:
    """The difference as a share of the second run's level over the same users."""
    if found is None:
        return None
    level = user_values(second).reindex(user_values(principal).index).mean()
    return found.difference / level if level else None


def tests(experiment: ExperimentResults) -> Rows:
    """The principal run against every other one on the same data and split."""
    principal, rows = experiment.principal, []
    for run in (run for run in comparable(experiment) if run is not principal):
        found = comparison(principal, run)
        rows.append(compared(principal, run, found) | {"relative": _relative(found, principal, run)})
    return rows


def sampled(experiment: ExperimentResults) -> Rows:
    """Metrics among sampled negatives, of the systems that have them."""
    principal = experiment.principal
    rows = []
    for run in experiment.runs:
        source = principal if run.role == "baseline" and principal else run
        if run.sampled:
            negatives = source.section("evaluation").get("sampled_negatives")
            values = {name: run.sampled.get(name) for name in ("HR@10", "NDCG@10", "MRR")}
            rows.append(named(run) | {"negatives": negatives} | values)
    return rows


def training(experiment: ExperimentResults) -> Rows:
    """The training record of every trained run, means over its seeds."""
    rows = []
    for run in experiment.trained:
        seeds = list((run.training.get("by_seed") or {}).values())
        row = named(run) | training_values(run, LAYOUTS["training"])
        if seeds:
            stopped = sum(bool(seed.get("stopped_early")) for seed in seeds)
            row |= {"seeds": len(seeds), "stopped": stopped, "early": f"{stopped} of {len(seeds)}"}
        rows.append(row)
    return rows


def scaled(experiment: ExperimentResults) -> list[Run]:
    """The runs that differ in size alone, smallest encoder first.

    Those of the principal run's architecture and data, trained from random weights without an adapter; of several
    runs of one size the principal one stands, or else the first.
    """
    principal = experiment.principal
    trained = [run for run in comparable(experiment) if run.role == "trained"]
    architecture = principal.section("model").get("architecture") if principal else None
    chosen, seen = [], set()
    for run in sorted(trained, key=lambda run: run is not principal):
        shape = run.section("model")
        if shape.get("architecture") != architecture or has_adapter(run) or (run.config or {}).get("warm_start"):
            continue
        marks = {tuple(shape.get(key) for key in SIZE), _encoder(run)} - {None}
        if not marks & seen:
            chosen.append(run)
        seen |= marks
    return sorted(chosen, key=lambda run: _encoder(run) or float("inf"))


def _encoder(run: Run) -> float | None:
    return run.training.get("encoder_parameters")


def has_adapter(run: Run) -> bool:
    return run.section("adapter").get("method") not in (None, "none")


def scaling(experiment: ExperimentResults) -> Rows:
    """Quality and cost by size, each size against the one before it."""
    columns = [c for c in LAYOUTS["scaling"].columns if "@" in c.name]
    rows, before = [], None
    for run in scaled(experiment):
        counts = ("encoder_parameters", "item_embedding_parameters", "parameters")
        row = named(run) | {"minutes": run.minutes} | metric_values(run, columns)
        row |= {name: run.training.get(name) for name in counts}
        found = comparison(run, before) if before else None
        rows.append(row | (vars(found) if found else {}) | {"before": before.label if before else None})
        before = run
    return rows


def adapters(experiment: ExperimentResults) -> Rows:
    """Every run with an adapter, against the run whose weights it starts from."""
    columns = [c for c in LAYOUTS["adapters"].columns if c.name == "NDCG@10"]
    rows = []
    for run in filter(has_adapter, experiment.trained):
        settings, start = run.section("adapter"), run.section("warm_start")
        origin = experiment.study.experiments.get(start.get("experiment") or experiment.name)
        backbone = origin.find(start.get("variant") or "") if origin else None
        row = named(run) | {"method": settings["method"], "r": settings.get("r")}
        row["experts"] = settings.get("experts") if settings["method"] == "ilora" else None
        row["backbone"] = starting_point(start)
        row |= {name: run.training.get(name) for name in ("trainable_parameters", "trainable_share")}
        row |= metric_values(run, columns)
        if backbone and protocol(backbone) == protocol(run):
            found = comparison(run, backbone)
            row |= {"backbone_NDCG@10": backbone.metrics.get("NDCG@10")} | (vars(found) if found else {})
        rows.append(row)
    return rows


def starting_point(start: dict[str, Any]) -> str | None:
    """What a run's `warm_start` names: a variant, with its experiment where that is another one, or a file."""
    experiment, variant = start.get("experiment"), start.get("variant")
    return f"{experiment}/{variant}" if experiment else variant or start.get("path")


def efficiency(experiment: ExperimentResults) -> Rows:
    """The measurements, those of one machine together, each against float32 of the same size."""
    measured = experiment.read(EFFICIENCY)
    rows = [{"hardware": measured.get("hardware") or {}} | row for row in measured.get("rows") or ()]
    on_gpu = [row["hardware"] for row in rows if row.get("peak_device_mb") is not None]
    rows = [row | {"hardware": machine(row["hardware"], row["hardware"] in on_gpu)} for row in rows]
    # What was measured before a failure is no result.
    rows = [{name: row.get(name) for name in FAILED} if row.get("error") else row for row in rows]
    full = [row for row in rows if row["mode"] in FULL_PRECISION]
    rates = {(row["hardware"], row["size"]): row.get("samples_per_second") for row in full}
    for row in rows:
        base, rate = rates.get((row["hardware"], row["size"])), row.get("samples_per_second")
        row["speedup"] = rate / base if rate and base else None
        row["emulated"] = "yes" if row.get("emulated") else None
    order = list(dict.fromkeys(row["hardware"] for row in rows))
    return sorted(rows, key=lambda row: order.index(row["hardware"]))


BUILDERS: dict[str, Builder] = {
    "data": data,
    "ranking": ranking,
    "cutoffs": cutoffs,
    "tests": tests,
    "sampled": sampled,
    "beyond": beyond,
    "groups": groups,
    "training": training,
    "provenance": provenance,
    "scaling": scaling,
    "adapters": adapters,
    "efficiency": efficiency,
}
