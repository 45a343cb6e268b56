"""The section on `movie_preference`: its tables, its figures, and what its text is composed from."""

from typing import Any

from frugal.report.frames import software
from frugal.report.movie_preference.figures import DRAWINGS
from frugal.report.movie_preference.findings import findings, headline
from frugal.report.movie_preference.layouts import LAYOUTS
from frugal.report.movie_preference.originals import Original
from frugal.report.movie_preference.tables import EXPERIMENT, build, has_options, label
from frugal.report.results import Results, Run
from frugal.report.tables import Table
from frugal.report.wording import beginning

__all__ = ["DRAWINGS", "LAYOUTS", "build", "context"]

#: How many questions of each kind are shown with their answers.
EXAMPLES_EACH = 2
LONGEST_ANSWER = 400


def context(results: Results, tables: dict[str, Table | None]) -> dict[str, Any]:
    """What the section's template can name."""
    principal, base = results.principal(EXPERIMENT), results.find(EXPERIMENT, "base")
    name = principal.name if principal else None
    configs = [run.config for run in (principal, base) if run is not None and run.config]
    return {
        "name": EXPERIMENT,
        "title": "Movie preference",
        "headline": headline(tables, name),
        "findings": findings(tables, name),
        "config": configs[0] if configs else {},
        "variants": [run.name for run in results.trained(EXPERIMENT)],
        "without_options": [run.name for run in results.trained(EXPERIMENT) if not has_options(run)],
        "original": Original(),
        "questions": questions(results),
        "software": software(results.of(EXPERIMENT), label),
    }


def questions(results: Results) -> list[dict[str, Any]]:
    """The first test questions of each kind, with the answers of the models that were asked them.

    A variant that words its questions otherwise was asked others, and is left out.
    """
    runs = [run for run in results.of(EXPERIMENT) if run.role != "rule" and run.examples]
    if not runs:
        return []
    chosen = [
        example
        for kind in ("easy", "hard")
        for example in [row for row in runs[0].examples if row["kind"] == kind][:EXAMPLES_EACH]
    ]
    answers = {run: {row["input"]: row for row in run.examples} for run in runs}
    asked = [run for run in runs if all(example["input"] in answers[run] for example in chosen)]
    return [
        {
            "kind": example["kind"],
            "lines": example["input"].split("\n"),
            "expected": example["expected"],
            "answers": [_answer(run, answers[run][example["input"]]) for run in asked],
        }
        for example in chosen
    ]


def _answer(run: Run, row: dict[str, Any]) -> dict[str, str]:
    shown = beginning(row["answer"], LONGEST_ANSWER)
    outcome = "right" if row["correct"] else "wrong" if row["valid"] else "no valid answer"
    return {"system": label(run), "outcome": outcome, "text": shown or "(nothing)"}
