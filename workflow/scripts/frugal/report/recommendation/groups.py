"""What a recommender's lists hold beyond accuracy, and what it gains where: rows of tables and of a figure."""

from typing import Any

import pandas as pd

from frugal.report.frames import Rows, recorded_values
from frugal.report.recommendation.layouts import LAYOUTS
from frugal.report.recommendation.protocol import comparable, named
from frugal.report.results import ExperimentResults, Run
from frugal.stats import FEW, compare

METRIC = "NDCG@10"
#: Groups of fewer users than this are marked.
FEW_USERS = 30
#: How groups of items are called.
TARGETS = {"head": "head targets", "mid": "mid targets", "tail": "tail targets", "cold": "cold targets"}


def beyond(experiment: ExperimentResults) -> Rows:
    """Coverage, popularity and novelty of every system's first ten items."""
    columns = [column for column in LAYOUTS["beyond"].columns if "@" in column.name]
    return [named(run) | recorded_values(run.beyond or {}, columns) for run in experiment.runs]


def shown_systems(experiment: ExperimentResults) -> list[Run]:
    """The principal run, the best of the other trained ones on the same data, and the best baseline."""
    principal = experiment.principal
    scored = [run for run in comparable(experiment) if METRIC in run.metrics and run is not principal]
    best = [
        max((run for run in scored if run.role == role), key=lambda run: run.metrics[METRIC], default=None)
        for role in ("trained", "baseline")
    ]
    return [run for run in (principal, *best) if run is not None]


def group_rows(experiment: ExperimentResults) -> Rows:
    """HR@10 and NDCG@10 of these systems in each group."""
    columns = [column for column in LAYOUTS["groups"].columns if "@" in column.name]
    systems, rows = shown_systems(experiment), []
    for by, name in _group_names(systems):
        for run in systems:
            entry = _entry(run, by, name)
            users = entry.get("users")
            row = named(run) | {"by": by, "group": group_label(by, name), "users": users}
            row["few"] = "few" if users is not None and users < FEW_USERS else None
            rows.append(row | recorded_values(entry, columns))
    return rows


def groups(experiment: ExperimentResults) -> Rows:
    """The same, with the trained systems against the baseline on the same users."""
    runs = {run.name: run for run in shown_systems(experiment)}
    baseline = next((run for run in runs.values() if run.role == "baseline"), None)
    names = {(by, group_label(by, name)): name for by, name in _group_names(list(runs.values()))}
    return [
        row | _difference(runs[row["run"]], baseline, row["by"], names[row["by"], row["group"]])
        for row in group_rows(experiment)
    ]


def group_label(by: str, name: str) -> str:
    """A group as tables and figures call it."""
    return f"histories of {name}" if by == "history" else TARGETS.get(name, name)


def _group_names(systems: list[Run]) -> list[tuple[str, str]]:
    """The groups of all systems, in the order of the first that has them."""
    entries = [entry for run in systems for entry in (run.beyond or {}).get("groups") or ()]
    return list(dict.fromkeys((entry["by"], entry["group"]) for entry in entries))


def _entry(run: Run, by: str, name: str) -> dict[str, Any]:
    entries = (run.beyond or {}).get("groups") or ()
    return next((entry for entry in entries if (entry["by"], entry["group"]) == (by, name)), {})


def _difference(run: Run, baseline: Run | None, by: str, name: str) -> dict[str, Any]:
    """A run against the baseline in one group; without an interval and a test where too few users are in it."""
    if baseline is None or run is baseline:
        return {}
    sides = [_values(one, by, name) for one in (run, baseline)]
    found = None if any(side is None for side in sides) else compare(*sides)
    if found is None:
        return {}
    tested = {"lower": found.lower, "upper": found.upper, "p": found.p} if found.users >= FEW else {}
    return {"against": baseline.label, "difference": found.difference, **tested}


def _values(run: Run, by: str, name: str) -> pd.Series | None:
    """NDCG@10 of each user in a group; None without a file."""
    if run.groups is None:
        return None
    return run.groups[(run.groups["by"] == by) & (run.groups["group"] == name)].set_index("user")[METRIC]
