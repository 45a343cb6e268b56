"""Which runs of an experiment on recommendation can be compared: those with the same data, cut in the same way."""

from typing import Any

from frugal.report.frames import system_values
from frugal.report.results import ExperimentResults, Run

SPLITS = {"leave_one_out": "leave one out", "global_time": "global time", "files": "the data set's own"}


def protocol(run: Run) -> str | None:
    """Data set, split and share of the data: runs can be compared only where these are the same.

    Baselines share those of the principal run; None where the settings are missing.
    """
    source = run.experiment.principal if run.role == "baseline" else run
    if source is None or not source.config:
        return None
    data = source.section("data")
    fraction = data.get("fraction") or 1
    parts = [source.config.get("dataset"), split_name(data)]
    parts += [f"ratings from {data['min_rating']:g}"] if data.get("min_rating") else []
    parts += [f"{data['max_users']:,d} users"] if data.get("max_users") else []
    parts += [f"{fraction:.0%} of the shards"] if fraction < 1 else []
    # A baseline that is left out has none.
    history = (run.record or {}).get("history") or (source.record or {}).get("history")
    parts += ["history ranked"] if history == "keep" else []
    return ", ".join(map(str, parts))


def comparable(experiment: ExperimentResults) -> list[Run]:
    """The runs with the data and split of the principal one, itself included."""
    principal = experiment.principal
    if principal is None:
        return experiment.runs
    return [run for run in experiment.runs if protocol(run) == protocol(principal)]


def split_name(data: dict[str, Any]) -> str:
    split = SPLITS.get(data.get("split"), str(data.get("split")))
    if data.get("split") != "global_time" or not data.get("test_share"):
        return split
    chosen = data.get("targets") or "all"
    return f"{split} (last {data['test_share']:.0%}{'' if chosen == 'all' else f', {chosen} item of each user'})"


def named(run: Run) -> dict[str, Any]:
    """What names a run in a table; its data and split only where runs differ in them."""
    protocols = {protocol(one) for one in run.experiment.runs} - {None}
    return system_values(run) | {"protocol": protocol(run) if len(protocols) > 1 else None}
