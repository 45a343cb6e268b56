"""Rows of tables that every experiment makes in the same way."""

from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd

from frugal.report.contents import TABLES
from frugal.report.results import Results, Run
from frugal.report.statistics import with_verdicts
from frugal.report.tables import Column, Layout, Table


def frame(layout: Layout, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows as a frame that has all columns of the layout, also without any row."""
    columns = [column.name for column in layout.columns]
    known = list(dict.fromkeys([*columns, *(key for row in rows for key in row)]))
    return pd.DataFrame(rows, columns=known)


def build(
    name: str,
    results: Results,
    layouts: dict[str, Layout],
    builders: dict[str, Callable[[Results, str], list[dict[str, Any]]]],
) -> Table:
    """A table of an experiment, tests with their verdicts; rows of missing results are there and empty.

    Args:
        builders: name of a table, without the experiment's name before it -> what makes its rows.
    """
    experiment = next(one for one, names in TABLES.items() if name in names)
    rows = frame(layouts[name], builders[name.removeprefix(f"{experiment}_")](results, experiment))
    return Table(name, layouts[name], with_verdicts(rows) if "verdict" in rows else rows)


def system_values(run: Run, system: str) -> dict[str, Any]:
    """What names a run in a table: ``system`` for readers, its folder, and its role."""
    return {"system": system, "run": run.name, "role": run.role}


def metric_values(run: Run, columns: Iterable[Column]) -> dict[str, Any]:
    """A run's metrics for these columns, with their intervals and spreads where the columns show them."""
    values: dict[str, Any] = {}
    for column in columns:
        values[column.name] = run.metrics.get(column.name)
        if column.interval:
            bounds = run.intervals.get(column.name) or (None, None)
            values |= {f"{column.name}_lower": bounds[0], f"{column.name}_upper": bounds[1]}
        if column.spread:
            values[f"{column.name}_std"] = run.std.get(column.name)
    return values


def provenance_values(run: Run) -> dict[str, Any]:
    """Commit, settings and machine of a result; empty when there is none."""
    record = run.provenance
    if not record:
        return {}
    hardware, inputs = record.get("hardware") or {}, record.get("inputs") or {}
    memory = hardware.get("memory_mb")
    return {
        "commit": short_commit(record.get("commit")),
        "config": (inputs.get("config") or "")[:12] or None,
        "processor": hardware.get("processor"),
        "cores": hardware.get("cores"),
        "memory_gb": memory / 1024 if memory else None,
        "gpus": gpu_names(hardware),
    }


def other_inputs(run: Run) -> str | None:
    """The inputs of a result but its settings, each with the beginning of its SHA-256; None without any."""
    inputs = run.provenance.get("inputs") or {}
    return ", ".join(f"{name} {sha256[:12]}" for name, sha256 in inputs.items() if name != "config") or None


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


def software(runs: list[Run], label: Callable[[Run], str]) -> list[dict[str, Any]]:
    """Package versions, and the runs that used them: one entry where all used the same."""
    groups: dict[tuple, list[str]] = {}
    for run in runs:
        versions = tuple((run.provenance.get("versions") or {}).items())
        if versions:
            groups.setdefault(versions, []).append(label(run))
    return [
        {"systems": systems, "versions": [" ".join(pair) for pair in versions]} for versions, systems in groups.items()
    ]
