"""The record of a rehearsal, results/rehearsal-<study>/rehearsal.md, and what is printed of it."""

import json
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

from frugal.config.study import Study
from frugal.rehearsal.run import Failure, Outcome
from frugal.rehearsal.standins import PREFIX
from frugal.run.durations import format_seconds


def summary(outcome: Outcome, study: Study, file: Path) -> str:
    """What is printed at the end: what was not rehearsed, the failures, and how long it took."""
    lines = ["", "Not rehearsed:", *(f"  - {sentence}" for sentence in outcome.rehearsal.not_rehearsed), ""]
    lines += [f"Asked of the network, and not there: {request}" for request in dict.fromkeys(outcome.unanswered)]
    for failure in outcome.failures:
        lines += [f"FAILED: {failure.rule}", *(f"  {line}" for line in explain(failure, outcome, study, file))]
    count, took = len(outcome.jobs), format_seconds(outcome.seconds)
    if outcome.code == 0:
        lines.append(f"The rehearsal of '{study.name}' passed: {count} jobs, {took}.")
    elif outcome.failures:
        lines.append(f"The rehearsal of '{study.name}' failed after {took}; the same command continues it.")
    else:
        lines.append(f"Snakemake ended before a job failed (exit code {outcome.code}); see its message above.")
    return "\n".join(lines)


def explain(failure: Failure, outcome: Outcome, study: Study, file: Path) -> list[str]:
    """Lines on a failed job: what it said, its log, its output, and the setting of the study that it belongs to."""
    lines = [f"error: {_last_words(Path(failure.log))}"] if failure.log else []
    lines += [f"log: {failure.log}"] if failure.log else []
    lines.append(f"output: {failure.output}")
    if key := setting(failure.output, outcome, study):
        lines.append(f"setting: {file}: {key}")
    return lines


def setting(output: str, outcome: Outcome, study: Study) -> str | None:
    """The key of the study that a job's output belongs to, with what a variant changes."""
    parts = Path(output).parts
    if outcome.rehearsal.name in parts:
        experiment, *rest = (*parts[parts.index(outcome.rehearsal.name) + 1 :], "")
        if experiment not in study.experiments:
            return None
        variants = study.experiments[experiment].settings.variants
        variant = rest[0] if rest and rest[0] in variants else None
        key = f"experiments.{experiment}"
        return f"{key}.variants.{variant} {_plain(variants[variant])}" if variant else key
    for part in parts:
        name = part.removeprefix(PREFIX)
        if name != part and name in study.datasets:
            return f"dataset: {name}"
        if name != part and name in study.models:
            return f"base_model: {name}"
    return None


def _last_words(log: Path) -> str:
    """A log's last error, or its last line."""
    try:
        lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return "the job left no log"
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or [line for line in lines if line] or ["the log is empty"])[-1]


def markdown(outcome: Outcome, study: Study, file: Path) -> str:
    """The whole record."""
    rehearsal = outcome.rehearsal
    state = "passed" if outcome.code == 0 else "failed"
    lines = [
        f"# Rehearsal of the study '{study.name}'",
        "",
        f"It {state}: {len(outcome.jobs)} jobs, {format_seconds(outcome.seconds)}. The study is {file}; its rehearsal, "
        f"results/{rehearsal.name}/rehearsal.yaml. The numbers of results/{rehearsal.name}/report/ mean nothing.",
        "",
    ]
    if outcome.failures:
        lines += ["## Failures", ""]
        for failure in outcome.failures:
            lines += [f"- {failure.rule}", *(f"  - {line}" for line in explain(failure, outcome, study, file))]
        lines.append("")
    if outcome.unanswered:
        lines += ["## Asked of the network, and not there", ""]
        lines += [*(f"- {request}" for request in dict.fromkeys(outcome.unanswered)), ""]
    lines += ["## Not rehearsed", "", *(f"- {sentence}" for sentence in rehearsal.not_rehearsed), ""]
    lines += ["## Stand-ins", "", *_table(("data set or model", "source, format"), rehearsal.stand_ins.items()), ""]
    lines += ["## Settings that were mapped", ""]
    changes = sorted(rehearsal.changes, key=lambda change: change.reason)
    for reason, group in groupby(changes, key=lambda change: change.reason):
        rows = [(change.key, _plain(change.before), _plain(change.after)) for change in group]
        lines += [f"{reason[0].upper()}{reason[1:]}:", "", *_table(("setting", "study", "rehearsal"), rows), ""]
    lines += ["## Jobs", ""]
    kept = sum(job.began < outcome.began for job in outcome.jobs)
    if kept:
        lines += [f"{kept} of them were finished by an earlier start of this rehearsal.", ""]
    rows = [(job.rule, job.output, f"{job.seconds:.1f}") for job in outcome.jobs]
    return "\n".join([*lines, *_table(("rule", "first output", "seconds"), rows), ""])


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = (" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows)
    return [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}", *(f"| {line} |" for line in lines)]
