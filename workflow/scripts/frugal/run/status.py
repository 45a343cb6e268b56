"""Where each run of a study is, from its files alone: results, checkpoints and logs.

Whatever starts the jobs, they leave the same files; so this works while Snakemake runs, after it was killed, and from
another machine that sees the folder. Only a training on this very machine is known to live or not; of others there
is when they last wrote.
"""

import os
import platform
import re
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frugal.config.study import Study
from frugal.files import read_json
from frugal.kinds import BASE
from frugal.run.outputs import PROGRESS_FILE

#: Seconds after which a training on another machine that says nothing is taken for one that may have ended.
SILENCE = 600
#: Seconds by which a log is newer than the last news of a training that has gone, where another one is beginning.
AFRESH = 30
#: What a job prints of its end; the second kind leaves something to continue from.
LAST_WORDS = re.compile(r"[\w.]*([Ee]rror|Exception|Interrupt)\b.*|.*: saved at step \d.*")
CAN_CONTINUE = re.compile(r": saved at step |^error: interrupted|Snakemake was killed")


@dataclass(frozen=True)
class Paths:
    """The files of one training, or of a run that has none."""

    name: str
    results: Path
    metrics: Path
    checkpoints: Path | None = None
    log: Path | None = None


@dataclass(frozen=True)
class Status:
    """One line: what a run is at. Times in seconds, memory in MB (2^20 bytes)."""

    name: str
    state: str
    log: str = ""
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    seconds: float | None = None
    memory_mb: float | None = None
    device_mb: float | None = None
    device_utilization: float | None = None
    remark: str = ""


def paths_of(study: Study, root: Path = Path()) -> Iterator[Paths]:
    """The files of every run, one for each seed where it has several; as the rules name them.

    Args:
        root: the working directory of Snakemake.
    """
    for name, experiment in study.experiments.items():
        logs = root / "logs" / study.name / f"train_{name}"
        checkpoints = root / "checkpoints" / study.name / name
        for variant, run in experiment.runs.items():
            folder = root / "results" / study.name / name / variant
            metrics = folder / "metrics.json"
            if variant == BASE:
                yield Paths(f"{name}/{variant}", folder, metrics)
            elif experiment.kind.has_base_model:
                log = logs / variant / "training.log"
                yield Paths(f"{name}/{variant}", folder, metrics, checkpoints / variant, log)
            else:
                for seed in run.seeds:
                    files = folder / "seeds" / str(seed), metrics, checkpoints / f"{variant}-{seed}"
                    yield Paths(f"{name}/{variant} seed {seed}", *files, logs / variant / f"{seed}.log")


def status_of(paths: Paths, now: float | None = None) -> Status:
    """What a run is at.

    * *finished*: it is evaluated; *trained*: that is still to come.
    * *running*, *starting*: its training lives, as far as this machine can know.
    * *silent*: a training on another machine has written nothing for a while.
    * *interrupted*: its training ended before its end, and goes on from its checkpoint with the same command.
    * *failed*: its training ended with an error; *waiting*: it has not begun.
    """
    now = time.time() if now is None else now
    if paths.log is None:
        return Status(paths.name, "finished" if paths.metrics.exists() else "waiting")
    log = str(paths.log) if paths.log.exists() else ""
    if (paths.results / "training.json").exists():
        record = read_json(paths.results / "training.json")
        return Status(
            paths.name,
            "finished" if paths.metrics.exists() else "trained",
            log,
            record["steps"],
            record["steps"],
            record["final_loss"],
            record["seconds"],
            record["peak_rss_mb"],
            record["peak_device_mb"],
        )
    news = newest_progress(paths.checkpoints)
    if news is None and not log:
        return Status(paths.name, "waiting")
    state, remark = state_of(news, paths.log if log else None, now)
    news = news or dict.fromkeys(("step", "steps", "loss", "seconds_left"))
    return Status(
        paths.name,
        state,
        log,
        news["step"],
        news["steps"],
        news["loss"],
        news["seconds_left"] if state == "running" else None,
        news.get("rss_mb"),
        news.get("device_mb"),
        news.get("device_utilization"),
        remark,
    )


def state_of(news: Mapping[str, Any] | None, log: Path | None, now: float) -> tuple[str, str]:
    """The state of a training that has begun and not finished, and what there is to say of it.

    Args:
        news: what it has last said of itself, if anything.
        log: where its job prints to, if that is there.
        now: seconds since 1970.
    """
    if news is not None and not is_gone(news):
        quiet = now - news["at"]
        if news["host"] != platform.node() and quiet > SILENCE:
            return "silent", f"{news['host']} has written nothing for {quiet / 60:.0f} minutes"
        return "running", ""
    words = last_words(log) if log else ""
    if words:
        return "interrupted" if CAN_CONTINUE.search(words) else "failed", words
    written = log.stat().st_mtime if log else 0
    begins = news is None or written > news["at"] + AFRESH
    return "starting" if begins and now - written < SILENCE else "interrupted", ""


def newest_progress(checkpoints: Path) -> dict[str, Any] | None:
    """What a training has last said of itself; older ones, of other settings, may lie beside it."""
    found = sorted(checkpoints.glob(f"*/{PROGRESS_FILE}"), key=lambda path: path.stat().st_mtime)
    return read_json(found[-1]) if found else None


def is_gone(news: Mapping[str, Any]) -> bool:
    """Whether the process that has written this is known not to live."""
    if news["host"] != platform.node():
        return False
    try:
        os.kill(news["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it is another user's
        return False
    return False


def last_words(log: Path) -> str:
    """The line with which a job says why it ended; empty where it does not."""
    with open(log, encoding="utf-8", errors="replace") as stream:
        lines = [line.strip() for line in deque(stream, maxlen=20)]
    return next((line for line in reversed(lines) if LAST_WORDS.fullmatch(line)), "")


def baselines_done(study: Study, root: Path = Path()) -> tuple[int, int]:
    """The number of baselines that are scored, and of all."""
    folder = root / "results" / study.name
    files = [
        folder / name / run / "metrics.json"
        for name, experiment in study.experiments.items()
        for run in experiment.baseline_runs
    ]
    return sum(file.exists() for file in files), len(files)
