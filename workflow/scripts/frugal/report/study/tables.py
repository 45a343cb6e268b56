"""The tables of the study as a whole: what training cost, the machines, and other studies beside this one."""

from dataclasses import replace
from typing import Any

from frugal.report.contents import across as across_name
from frugal.report.frames import (
    Rows,
    frame,
    machine,
    machine_key,
    machine_values,
    metric_values,
    system_values,
)
from frugal.report.results import ExperimentResults, Results, Run
from frugal.report.study.layouts import LAYOUTS
from frugal.report.study.layouts import across as across_layout
from frugal.report.tables import Layout, Table


def layouts(results: Results) -> dict[str, Layout]:
    """Name -> layout: costs and machines, and one for each experiment that other studies have too."""
    shared = dict.fromkeys(name for other in results.others.values() for name in other.experiments)
    ordered = [experiment for name, experiment in results.experiments.items() if name in shared]
    found = LAYOUTS | {across_name(experiment.name): across_layout(experiment) for experiment in ordered}
    if any(experiment.original for experiment in results.experiments.values()):
        caption = f"{LAYOUTS['machines'].caption} Below them is the hardware that the original write-ups name."
        found["machines"] = replace(LAYOUTS["machines"], caption=caption)
    return found


def build(name: str, results: Results) -> Table:
    """`efficiency`, `machines`, or `across_<experiment>`; rows of missing results are there and empty."""
    layout = layouts(results)[name]
    builders = {"efficiency": efficiency, "machines": machines}
    if name in builders:
        return Table(name, layout, frame(layout, builders[name](results)))
    return Table(name, layout, frame(layout, across(results.experiments[name.removeprefix(across_name(""))])))


def cost(run: Run) -> dict[str, Any]:
    """What training a run cost: device, weights, minutes, speed, memory; of a run that trained nothing the device."""
    record, hardware = run.training, run.provenance.get("hardware") or {}
    names = ("parameters", "trainable_parameters", "trainable_share", "peak_rss_mb", "peak_device_mb")
    speed = run.experiment.section.SPEED[0]
    values = {name: record.get(name) for name in (*names, "matmul_peak_share")}
    values |= {"minutes": run.minutes, "per_second": record.get(speed), "compute_dtype": run.compute_dtype}
    if hardware:
        values["device"] = machine(hardware, on_gpu=record.get("peak_device_mb") is not None)
    return values


def efficiency(results: Results) -> Rows:
    """One row a trained run of any experiment."""
    rows = []
    for run in (run for run in results.runs if run.role == "trained"):
        seeds = len(run.training.get("by_seed") or {})
        row = system_values(run) | {"experiment": run.experiment.title}
        rows.append(row | {"trainings": seeds or 1 if run.training else None} | cost(run))
    return rows


def machines(results: Results) -> Rows:
    """One row a machine of each study, and one a write-up that names its hardware."""
    rows = []
    for name, study in studies(results).items():
        found: dict[tuple, dict[str, Any]] = {}
        for run in study.runs:
            hardware = run.provenance.get("hardware") or {}
            if hardware:
                values = machine_values(hardware) | {"instructions": hardware.get("instructions")}
                values["gpus"] = values["gpus"] or "none"
                row = found.setdefault(machine_key(hardware), values | {"titles": [], "types": [], "results": 0})
                row["titles"].append(run.experiment.title)
                row["types"] += [f"{run.compute_dtype} ({run.dtype_reason})"] if run.dtype_reason else []
                row["results"] += 1
        # A study without any result is a row of its own, and missing.
        for row in found.values() or [{}]:
            experiments, types = (dict.fromkeys(row.pop(key, [])) for key in ("titles", "types"))
            joined = {"experiments": ", ".join(experiments), "compute_dtypes": "; ".join(types) or None}
            rows.append(row | {"study": name, "original": "no"} | joined)
    return rows + [
        {"study": "original", "original": "yes", "experiments": experiment.title, "gpus": experiment.original.hardware}
        for experiment in results.experiments.values()
        if experiment.original is not None
    ]


def studies(results: Results) -> dict[str, Results]:
    """This study under its own name, and the others by the names that the configuration gives them."""
    return {results.name: results} | results.others


def across(experiment: ExperimentResults) -> Rows:
    """One row a run and study, the rows of a run together."""
    found = {name: study.experiments.get(experiment.name) for name, study in studies(experiment.study).items()}
    found = {name: one for name, one in found.items() if one is not None}
    scores, rows = experiment.section.SCORES, []
    for run_name in dict.fromkeys(run.name for one in found.values() for run in one.runs):
        own = experiment.find(run_name)
        for study_name, one in found.items():
            if (run := one.find(run_name)) is not None:
                row = system_values(run) | {"study": study_name} | metric_values(run, scores)
                row |= {"data": experiment.section.data_of(run), "model": (run.config or {}).get("base_model")}
                against = {"settings": None, "agrees": None}
                if run is not own:
                    against = {"settings": _settings(own, run), "agrees": _agrees(own, run, [c.name for c in scores])}
                rows.append(row | cost(run) | against)
    return rows


def _agrees(own: Run | None, other: Run, scores: list[str]) -> str | None:
    """Whether the 95 % intervals of every score of two runs overlap; None where one of them has none."""
    if own is None:
        return None
    shared = [name for name in scores if name in own.intervals and name in other.intervals]
    both = [(own.intervals[name], other.intervals[name]) for name in shared]
    apart = any(max(one[0], two[0]) > min(one[1], two[1]) for one, two in both)
    return ("no" if apart else "yes") if both else None


def _settings(own: Run | None, other: Run) -> str | None:
    """Whether two runs of one name have the same settings; None where those of one are not there."""
    if own is None or not own.config or not other.config:
        return None
    return "the same" if own.config == other.config else "others"
