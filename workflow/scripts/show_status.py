"""Where each run of a study is: its state, step, loss, time left, memory and log, from its files alone."""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from frugal.config.study import read_study
from frugal.errors import run_script
from frugal.run.durations import format_seconds
from frugal.run.status import Status, baselines_done, paths_of, status_of

STATES = ("running", "starting", "silent", "failed", "interrupted", "trained", "waiting", "finished")
COLUMNS = ("run", "state", "step", "loss", "time", "memory", "GPU", "log")


def cells(status: Status) -> list[str]:
    """A line of the table: time is what a running training still needs, and what a finished one took."""
    done = status.state in ("finished", "trained")
    duration = "" if status.seconds is None else f"{format_seconds(status.seconds)}{'' if done else ' left'}"
    device = "" if status.device_mb is None else f"{status.device_mb / 1024:.1f} GB"
    if status.device_utilization is not None:
        device += f" {status.device_utilization:.0f} %"
    return [
        status.name,
        status.state,
        "" if status.step is None else f"{status.step}/{status.steps}",
        "" if status.loss is None else f"{status.loss:.4f}",
        duration,
        "" if status.memory_mb is None else f"{status.memory_mb / 1024:.1f} GB",
        device,
        status.log,
    ]


def as_text(statuses: Sequence[Status]) -> str:
    """All runs as an aligned table, with what went wrong below its run."""
    rows = [list(COLUMNS), *map(cells, statuses)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    remarks = ["", *(status.remark for status in statuses)]
    return "\n".join(line + (f"\n    {remark}" if remark else "") for line, remark in zip(lines, remarks, strict=True))


def summary(statuses: Sequence[Status], baselines: tuple[int, int], report: Path) -> str:
    counts = Counter(status.state for status in statuses)
    states = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    written = str(report) if report.exists() else "not written yet"
    return f"{len(statuses)} runs: {states}; {baselines[0]} of {baselines[1]} baselines scored; report: {written}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configfile", type=Path, default=Path("config/config.yaml"), help="the study")
    parser.add_argument("--json", action="store_true", help="one JSON object a run instead of the table")
    args = parser.parse_args()
    study = read_study(args.configfile)
    statuses = [status_of(paths) for paths in paths_of(study)]
    if args.json:
        print(*(json.dumps(asdict(status)) for status in statuses), sep="\n")
        return
    print(as_text(statuses))
    report = Path("results") / study.name / "report" / "report.html"
    print(f"\n{summary(statuses, baselines_done(study), report)}")


if __name__ == "__main__":
    run_script(main)
