"""The plan on the terminal: aligned tables, and what no table has in a sentence."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from frugal.planning.study import LEFT_OUT, Plan, PlannedJob
from frugal.run.durations import format_seconds

HEADING = ("job", "stage", "weights", "PFLOP", "memory", "disk", "share", "from", "time", "kWh")


def aligned(lines: Sequence[Sequence[str]], words: int = 1) -> str:
    """Lines of cells under a heading: the first ``words`` columns left, the others right.

    A line with fewer cells than the heading ends in a sentence, which takes the room of all columns that follow.
    """
    whole = [line for line in lines if len(line) == len(lines[0])]
    widths = [max(len(line[column]) for line in whole) for column in range(len(lines[0]))]
    for line in lines:
        for column, cell in enumerate(line[:-1]):
            widths[column] = max(widths[column], len(cell))
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < words or len(cell) > width else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=False))
        ).rstrip()
        for line in lines
    )


def jobs_table(plan: Plan, priced: bool) -> str:
    """A line for each planned job; trainings that differ in their seed alone share one."""
    lines = [[*HEADING, *(["cost"] if priced else [])]]
    counts = Counter(_without_seed(one) for one in plan.jobs)
    shown = set()
    for one in plan.jobs:
        key = _without_seed(one)
        if key in shown:
            continue
        shown.add(key)
        job, times = one.job, counts[key]
        line = [
            key[0] + (f" ({times} seeds, each)" if times > 1 else ""),
            job.stage,
            count(job.weights),
            f"{sum(job.work.flops.values()) / 1e15:.3g}",
            f"{job.memory_mb / 1024:.1f} GB" + ("" if one.fits is not False else " !"),
            size(job.disk_mb) if job.disk_mb else "",
            f"{one.share.value:.2f}",
            one.share.source.partition(":")[0],
            format_seconds(one.seconds),
            f"{one.kwh:.3g}",
        ]
        lines.append([*line, *([f"{one.cost:.2f}"] if priced else [])])
    return aligned(lines, words=2)


def _without_seed(one: PlannedJob) -> tuple[str, str]:
    return one.job.name.partition(" seed ")[0], one.job.stage


def totals_text(plan: Plan, totals: Mapping[str, Any], unit: str) -> str:
    """What all planned jobs take together.

    Args:
        unit: what the devices are called, "GPUs" or "cores".
    """
    devices = totals["devices"]
    cost = "" if totals["cost"] is None else f", cost {totals['cost']:.2f}"
    lines = [
        f"All {totals['jobs']} jobs: {totals['petaflops']:.4g} PFLOP, {totals['device_seconds'] / 3600:.3g} hours of "
        f"one {unit[:-1]}, {totals['kwh']:.3g} kWh{cost}; {size(totals['disk_mb'])} of models and checkpoints on disk.",
        f"Critical path: {format_seconds(totals['critical_path_seconds'])}, with any number of {unit}: "
        f"{', then '.join(totals['critical_path']) or 'nothing'}.",
    ]
    if unit == "GPUs":
        done = {number: format_seconds(plan.totals(number)["side_by_side_seconds"]) for number in {1, devices}}
        lines += [f"With {number} GPU{'s side by side' * (number > 1)}: {done[number]}." for number in sorted(done)]
        if more := {_without_seed(one)[0]: one.job.devices for one in plan.jobs if one.job.devices > devices}:
            wanted = ", ".join(f"{name} {number}" for name, number in more.items())
            lines.append(f"More than {devices} at once, which these times take for granted: {wanted}.")
    else:
        lines.append(f"On {devices} core{'s' * (devices > 1)}: {format_seconds(totals['side_by_side_seconds'])}.")
    lines.append(f"Not planned: {LEFT_OUT}.")
    if plan.too_large:
        names = ", ".join(dict.fromkeys(_without_seed(one)[0] for one in plan.too_large))
        lines.append(
            f"May not fit into the {plan.device.memory_gb:g} GB of {plan.device.title}, with 5 % free: {names}."
        )
    if plan.unplanned:
        reasons: dict[str, list[str]] = {}
        for job in plan.unplanned:
            reasons.setdefault(job.problem, []).append(f"{job.name} ({job.stage})")
        lines.append(f"{len(plan.unplanned)} jobs could not be planned, and the totals are without them:")
        lines += [f"  {reason}\n    {', '.join(names)}" for reason, names in reasons.items()]
    return "\n".join(lines)


def devices_table(plans: Mapping[str, Plan], gpus: int) -> str:
    """The same study on other devices: hours, energy, and what does not run there."""
    lines = [["device", "hours", f"on {gpus}" if gpus > 1 else "", "kWh", "may not fit", "not planned"]]
    for name, plan in plans.items():
        totals = plan.totals(gpus)
        lines.append(
            [
                name,
                f"{totals['device_seconds'] / 3600:.3g}",
                format_seconds(totals["side_by_side_seconds"]) if gpus > 1 else "",
                f"{totals['kwh']:.3g}",
                str(len(plan.too_large)),
                str(len(plan.unplanned)),
            ]
        )
    if gpus == 1:
        lines = [[*line[:2], *line[3:]] for line in lines]
    return aligned(lines)


def size(mb: float) -> str:
    """MB of 2^20 bytes as people read them."""
    return f"{mb / 1024:.1f} GB" if mb >= 1000 else f"{mb:.0f} MB"


def count(number: int) -> str:
    """A number of weights: 8.03B, 135M, 35K."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= unit:
            return f"{number / unit:.3g}{name}"
    return str(number)
