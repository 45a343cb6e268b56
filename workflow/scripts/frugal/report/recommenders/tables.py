"""The tables of the recommender experiments, from their result files."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd

from frugal.report import frames
from frugal.report.frames import machine, metric_values, other_inputs, provenance_values, system_values
from frugal.report.recommenders.layouts import LAYOUTS
from frugal.report.results import Results, Run
from frugal.report.statistics import compare_users
from frugal.report.tables import Table

LABELS = {
    "baseline_popularity": "popularity",
    "baseline_item_knn": "ItemKNN",
    "baseline_ease": "EASE",
    "baseline_ease_recency": "EASE with recency",
    "baseline_markov": "Markov chain",
}
SPLITS = {"leave_one_out": "leave one out", "global_time": "global time"}
#: What modes are compared with.
FULL_PRECISION = ("float32", "fp32")
#: What remains of a measurement that failed.
FAILED = ("hardware", "size", "mode", "error")
Rows = list[dict[str, Any]]


def build(name: str, results: Results) -> Table:
    """One table of these experiments, such as `ssept_ranking`; rows of missing results are there and empty."""
    return frames.build(name, results, LAYOUTS, BUILDERS)


def label(run: Run) -> str:
    """A run as tables and figures call it."""
    return LABELS.get(run.name, run.name)


def protocol(run: Run, results: Results) -> str | None:
    """Data set, split and share of the data: runs can be compared only where these are the same.

    Baselines share those of the principal run; None where the settings are missing.
    """
    source = results.principal(run.experiment) if run.role == "rule" else run
    if source is None or not source.config:
        return None
    data = source.section("data")
    fraction = data.get("fraction") or 1
    parts = [source.config.get("dataset"), _split(data)]
    parts += [f"ratings from {data['min_rating']:g}"] if data.get("min_rating") else []
    parts += [f"{data['max_users']:,d} users"] if data.get("max_users") else []
    parts += [f"{fraction:.0%} of the shards"] if fraction < 1 else []
    return ", ".join(map(str, parts))


def comparable(results: Results, experiment: str) -> list[Run]:
    """The runs with the data and split of the principal one, itself included."""
    principal = results.principal(experiment)
    if principal is None:
        return results.of(experiment)
    return [run for run in results.of(experiment) if protocol(run, results) == protocol(principal, results)]


def _split(data: dict[str, Any]) -> str:
    split = SPLITS.get(data.get("split"), str(data.get("split")))
    return f"{split} (last {data['test_share']:.0%})" if "time" in split and data.get("test_share") else split


def _row(run: Run, results: Results) -> dict[str, Any]:
    """What names a run in a table; its data and split only where runs differ in them."""
    protocols = {protocol(one, results) for one in results.of(run.experiment)} - {None}
    return system_values(run, label(run)) | {"protocol": protocol(run, results) if len(protocols) > 1 else None}


def _several_targets(run: Run, results: Results) -> bool:
    """Whether a user may have several targets; with one, recall is the hit rate again."""
    source = results.principal(run.experiment) if run.role == "rule" else run
    return source is not None and source.section("data").get("split") == "global_time"


def data(results: Results, experiment: str) -> Rows:
    """One row a data set and split: what was prepared of it, and who is tested."""
    rows: dict[str | None, dict[str, Any]] = {}
    for run in results.trained(experiment):
        settings, dataset = run.section("data"), (run.config or {}).get("dataset")
        summary = results.summary(dataset) if dataset else {}
        users, interactions = summary.get("users"), summary.get("rows_kept")
        ordered = summary.get("ordered", summary.get("first_timestamp") is not None)
        split = "as published" if summary and not ordered else _split(settings) if run.config else None
        row = {
            "dataset": dataset,
            "split": split,
            "users": users,
            "items": summary.get("items"),
            "interactions": interactions,
            "mean_length": interactions / users if users and interactions else None,
            "ties": summary.get("ties_at_last_position"),
            "ordered": ("yes" if ordered else "no") if summary else None,
        } | {name: settings.get(name) for name in ("min_rating", "max_users", "fraction")}
        row = rows.setdefault(protocol(run, results), row)
        row["cases"] = row.get("cases") or (run.record or {}).get("cases")
    return list(rows.values())


def ranking(results: Results, experiment: str) -> Rows:
    """The metrics of every system."""
    columns = [c for c in LAYOUTS[f"{experiment}_ranking"].columns if "@" in c.name or c.name == "MRR"]
    rows = []
    for run in results.of(experiment):
        shown = [c for c in columns if c.name != "recall@10" or _several_targets(run, results)]
        seeds = len(run.by_seed) if run.role == "trained" else None
        rows.append(_row(run, results) | {"seeds": seeds or None} | metric_values(run, shown))
    return rows


def cutoffs(results: Results, experiment: str) -> Rows:
    """The metrics at every cut-off but ten, smallest first."""
    runs = [run for run in results.of(experiment) if run.metrics]
    known = {int(name[3:]) for run in runs for name in run.metrics if re.fullmatch(r"HR@\d+", name)}
    rows, layout = [], LAYOUTS[f"{experiment}_cutoffs"]
    for k in sorted(known - {10}):
        for run in runs:
            row = _row(run, results) | {"k": k}
            for column in (c for c in layout.columns if c.name in ("HR", "NDCG", "recall", "coverage")):
                if column.name != "recall" or _several_targets(run, results):
                    values = metric_values(run, [replace(column, name=f"{column.name}@{k}")])
                    row |= {name.replace(f"@{k}", ""): value for name, value in values.items()}
            rows.append(row)
    return rows


def user_values(run: Run, name: str = "NDCG@10") -> pd.Series | None:
    """A metric of each test user, the mean over seeds; None without predictions."""
    if run.predictions is None or run.predictions.empty:
        return None
    return run.predictions.groupby("user")[name].mean()


def comparison(first: Run, second: Run) -> dict[str, Any]:
    """First minus second in the users' NDCG@10; empty where one of them is missing."""
    sides = [user_values(run) for run in (first, second)]
    if any(side is None for side in sides) or (found := compare_users(*sides)) is None:
        return {}
    level = sides[1].reindex(sides[0].index).mean()
    return vars(found) | {"relative": found.difference / level if level else None}


def tests(results: Results, experiment: str) -> Rows:
    """The principal run against every other one on the same data and split."""
    principal = results.principal(experiment)
    others = [run for run in comparable(results, experiment) if run is not principal]
    return [
        {"first": label(principal), "second": label(run), "run": run.name, "role": run.role}
        | comparison(principal, run)
        for run in (others if principal else ())
    ]


def sampled(results: Results, experiment: str) -> Rows:
    """Metrics among sampled negatives, of the systems that have them."""
    principal = results.principal(experiment)
    rows = []
    for run in results.of(experiment):
        source = principal if run.role == "rule" and principal else run
        if run.sampled:
            negatives = source.section("evaluation").get("sampled_negatives")
            values = {name: run.sampled.get(name) for name in ("HR@10", "NDCG@10", "MRR")}
            rows.append(_row(run, results) | {"negatives": negatives} | values)
    return rows


def training(results: Results, experiment: str) -> Rows:
    """The training record of every trained run, means over its seeds."""
    names = [column.name for column in LAYOUTS[f"{experiment}_training"].columns]
    rows = []
    for run in results.trained(experiment):
        record = run.training
        seeds = list((record.get("by_seed") or {}).values())
        row = _row(run, results) | {name: record.get(name) for name in names if name not in ("system", "seeds")}
        if seeds:
            stopped = sum(bool(seed.get("stopped_early")) for seed in seeds)
            row |= {"seeds": len(seeds), "stopped": stopped, "early": f"{stopped} of {len(seeds)}"}
        rows.append(row | {"minutes": run.minutes})
    return rows


def scaled(results: Results, experiment: str) -> list[Run]:
    """The runs that differ in size alone, smallest encoder first.

    Those of the architecture BERT4Rec, trained from random weights without an adapter, with the data of
    the principal run; of several runs of one size the principal one stands, or else the first.
    """
    principal = results.principal(experiment)
    trained = [run for run in comparable(results, experiment) if run.role == "trained"]
    chosen, seen = [], set()
    for run in sorted(trained, key=lambda run: run is not principal):
        shape = run.section("model")
        if shape.get("architecture") != "bert4rec" or has_adapter(run) or (run.config or {}).get("warm_start"):
            continue
        sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        marks = {tuple(shape.get(key) for key in sizes), _encoder(run)} - {None}
        if not marks & seen:
            chosen.append(run)
        seen |= marks
    return sorted(chosen, key=lambda run: _encoder(run) or float("inf"))


def _encoder(run: Run) -> float | None:
    return run.training.get("encoder_parameters")


def has_adapter(run: Run) -> bool:
    return run.section("adapter").get("method") not in (None, "none")


def scaling(results: Results, experiment: str) -> Rows:
    """Quality and cost by size, each size against the one before it."""
    columns = [c for c in LAYOUTS[f"{experiment}_scaling"].columns if "@" in c.name]
    rows, before = [], None
    for run in scaled(results, experiment):
        counts = ("encoder_parameters", "item_embedding_parameters", "parameters")
        row = _row(run, results) | {"minutes": run.minutes} | metric_values(run, columns)
        row |= {name: run.training.get(name) for name in counts}
        rows.append(row | (comparison(run, before) if before else {}) | {"before": label(before) if before else None})
        before = run
    return rows


def adapters(results: Results, experiment: str) -> Rows:
    """Every run with an adapter, against the run whose weights it starts from."""
    columns = [c for c in LAYOUTS[f"{experiment}_adapters"].columns if c.name == "NDCG@10"]
    rows = []
    for run in filter(has_adapter, results.trained(experiment)):
        settings, start = run.section("adapter"), run.section("warm_start")
        backbone = results.find(experiment, start.get("variant") or "")
        row = _row(run, results) | {"method": settings["method"], "r": settings.get("r")}
        row["experts"] = settings.get("experts") if settings["method"] == "ilora" else None
        row["backbone"] = start.get("variant") or start.get("path")
        row |= {name: run.training.get(name) for name in ("trainable_parameters", "trainable_share")}
        row |= metric_values(run, columns)
        if backbone and protocol(backbone, results) == protocol(run, results):
            row |= {"backbone_NDCG@10": backbone.metrics.get("NDCG@10")} | comparison(run, backbone)
        rows.append(row)
    return rows


def efficiency(results: Results, experiment: str) -> Rows:
    """The measurements, those of one machine together, each against float32 of the same size."""
    measured = results.measurements(experiment)
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
    order = list(dict.fromkeys(row["hardware"] for row in rows))
    return sorted(rows, key=lambda row: order.index(row["hardware"]))


def provenance(results: Results, experiment: str) -> Rows:
    """Seeds, commit, inputs and machine of every result."""
    rows = []
    for run in results.of(experiment):
        seeds = ", ".join(map(str, run.seeds)) or None
        rows.append(_row(run, results) | provenance_values(run) | {"seed_list": seeds, "inputs": other_inputs(run)})
    return rows


BUILDERS: dict[str, Callable[[Results, str], Rows]] = {
    "data": data,
    "ranking": ranking,
    "cutoffs": cutoffs,
    "tests": tests,
    "sampled": sampled,
    "training": training,
    "provenance": provenance,
    "scaling": scaling,
    "adapters": adapters,
    "efficiency": efficiency,
}
