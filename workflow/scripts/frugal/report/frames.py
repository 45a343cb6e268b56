"""Rows of tables that all kinds of experiments make in the same way."""

from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd

from frugal.report.results import ExperimentResults, Run
from frugal.report.tables import Column, Layout, Table
from frugal.stats import Comparison, with_verdicts

Rows = list[dict[str, Any]]


def frame(layout: Layout, rows: Rows) -> pd.DataFrame:
    """Rows as a frame that has all columns of the layout, also without any row."""
    columns = [column.name for column in layout.columns]
    known = list(dict.fromkeys([*columns, *(key for row in rows for key in row)]))
    return pd.DataFrame(rows, columns=known)


def build(part: str, experiment: ExperimentResults) -> Table:
    """A table of an experiment, tests with their verdicts; rows of missing results are there and empty."""
    layout = experiment.section.LAYOUTS[part]
    rows = frame(layout, experiment.section.BUILDERS[part](experiment))
    return Table(f"{experiment.name}_{part}", layout, with_verdicts(rows) if "verdict" in rows else rows)


def system_values(run: Run) -> dict[str, Any]:
    """What names a run in a table: for readers, by its folder, and by its role."""
    return {"system": run.label, "run": run.name, "role": run.role}


def metric_values(run: Run, columns: Iterable[Column]) -> dict[str, Any]:
    """A run's metrics for these columns, with their intervals and spreads where the columns show them."""
    return recorded_values(run.record or {}, columns)


def recorded_values(record: dict[str, Any], columns: Iterable[Column]) -> dict[str, Any]:
    """The same from a record with `metrics`, and with `intervals` and `std` or without."""
    metrics, intervals, spreads = (record.get(part) or {} for part in ("metrics", "intervals", "std"))
    values: dict[str, Any] = {}
    for column in columns:
        values[column.name] = metrics.get(column.name)
        if column.interval:
            bounds = intervals.get(column.name) or (None, None)
            values |= {f"{column.name}_lower": bounds[0], f"{column.name}_upper": bounds[1]}
        if column.spread:
            values[f"{column.name}_std"] = spreads.get(column.name)
    return values


def training_values(run: Run, layout: Layout) -> dict[str, Any]:
    """A trained run's record for the columns of a layout, and how long it took."""
    names = [column.name for column in layout.columns if column.name != "system"]
    return system_values(run) | {name: run.training.get(name) for name in names} | {"minutes": run.minutes}


def adapted(record: dict[str, Any]) -> str | None:
    """How many of a model's linear layers have an adapter, by their names: "k_proj, q_proj: 30 of 30".

    Args:
        record: of a training.
    """
    groups: dict[str, list[str]] = {}
    for name, count in (record.get("adapted_modules") or {}).items():
        total = (record.get("linear_modules") or {}).get(name)
        groups.setdefault(f"{count:,d} of {total:,d}" if total else f"{count:,d}", []).append(name)
    return "; ".join(f"{', '.join(names)}: {counts}" for counts, names in groups.items()) or None


def dataset_of(run: Run) -> str | None:
    """The data set of a run; a baseline's is that of its experiment's principal run."""
    source = run.experiment.principal if run.role == "baseline" else run
    return (source.config or {}).get("dataset") if source else None


def tie_order(summary: dict[str, Any]) -> str | None:
    """What orders a user's interactions of one time in prepared data; None where it has no such record."""
    ties = summary.get("ties")
    if ties is None:
        return None
    return "that of the file" if ties["order"] == "file" else f"random (seed {ties['seed']})"


def compared(principal: Run, other: Run, found: Comparison | None) -> dict[str, Any]:
    """A row of a table of tests: what the principal run is compared with, and what was found."""
    names = {"first": principal.label, "second": other.label, "run": other.name, "role": other.role}
    return names | (vars(found) if found else {})


def provenance(experiment: ExperimentResults) -> Rows:
    """Seeds, commit, inputs and machine of every result."""
    rows = []
    for run in experiment.runs:
        row, record = system_values(run), run.provenance
        if record:
            hardware, inputs = record.get("hardware") or {}, record.get("inputs") or {}
            # In recommendation, what is not trained has no seed but that of its ties.
            seed = record.get("seed") if experiment.kind.has_base_model else None
            others = [f"{name} {sha256[:12]}" for name, sha256 in inputs.items() if name != "config"]
            row |= {
                "seed_list": ", ".join(map(str, run.seeds or ([] if seed is None else [seed]))) or None,
                "commit": short_commit(record.get("commit")),
            }
            row |= {"config": (inputs.get("config") or "")[:12] or None, "inputs": ", ".join(others) or None}
            row |= machine_values(hardware)
        rows.append(row)
    return rows


def machine_values(hardware: dict[str, Any]) -> dict[str, Any]:
    """A machine in a table."""
    memory = hardware.get("memory_mb")
    values = {name: hardware.get(name) for name in ("processor", "cores")}
    return values | {"memory_gb": memory / 1024 if memory else None, "gpus": gpu_names(hardware)}


def gpu_names(hardware: dict[str, Any]) -> str | None:
    """The machine's GPUs, with a comma between them; None without any."""
    return ", ".join(gpu.get("name", "") for gpu in hardware.get("gpus") or ()) or None


def machine(hardware: dict[str, Any], on_gpu: bool) -> str:
    """The part of a machine that did the work."""
    gpus = gpu_names(hardware)
    if on_gpu and gpus:
        return gpus
    cores = f", {hardware['cores']} cores" if hardware.get("cores") else ""
    return f"{hardware.get('processor') or 'unknown processor'}{cores}"


def machine_key(hardware: dict[str, Any]) -> tuple:
    """What tells machines apart; the memory in whole GB, because a system keeps more or less of it to itself."""
    memory = hardware.get("memory_mb")
    return hardware.get("processor"), hardware.get("cores"), memory and round(memory / 1024), gpu_names(hardware)


def short_commit(commit: str | None) -> str | None:
    """The first 12 digits of a commit, and whether files differed from it."""
    if not commit:
        return None
    digits, plus, changes = commit.partition("+")
    return f"{digits[:12]}{plus}{changes}"


def software(runs: list[Run]) -> list[dict[str, Any]]:
    """Package versions, and the runs that used them: one entry where all used the same."""
    groups: dict[tuple, list[str]] = {}
    for run in runs:
        versions = tuple((run.provenance.get("versions") or {}).items())
        if versions:
            groups.setdefault(versions, []).append(run.label)
    return [
        {"systems": systems, "versions": [" ".join(pair) for pair in versions]} for versions, systems in groups.items()
    ]


Builder = Callable[[ExperimentResults], Rows]
