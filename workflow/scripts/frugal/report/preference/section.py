"""The section on an experiment on preferences: its tables, its figures, and what its text is composed from."""

from typing import Any

from frugal.report.frames import dataset_of as data_of
from frugal.report.preference.figures import DRAWINGS
from frugal.report.preference.findings import findings, headline
from frugal.report.preference.layouts import LAYOUTS
from frugal.report.preference.tables import BUILDERS, has_options
from frugal.report.results import ExperimentResults, Run
from frugal.report.tables import Column
from frugal.report.wording import Tables, beginning, count, resolution, row_of, rows_of

__all__ = [
    "BUILDERS",
    "COMPARED",
    "DRAWINGS",
    "LAYOUTS",
    "SCORES",
    "SPEED",
    "context",
    "data_of",
    "findings",
    "headline",
    "threats",
]

#: What runs of several studies are compared by.
SCORES = (
    Column("accuracy", "Accuracy", ".3f", interval=True),
    Column("accuracy_easy", "Easy pairs", ".3f", interval=True),
    Column("accuracy_hard", "Hard pairs", ".3f", interval=True),
)
#: The one of them that a sentence names.
COMPARED = SCORES[0]
SPEED = ("tokens_per_second", "Tokens per second")
#: How many questions of each difficulty are shown with their answers.
EXAMPLES_EACH = 2
LONGEST_ANSWER = 400


def context(experiment: ExperimentResults, tables: Tables) -> dict[str, Any]:
    """What the section's template names beside what all have."""
    base = experiment.find("base")
    config = experiment.principal.config or (base.config if base is not None else None) or {}
    return {
        "config": config,
        "left_out": [(run.label, run.left_out) for run in experiment.runs if run.left_out],
        "without_options": [run.name for run in experiment.trained if not has_options(run)],
        "questions": questions(experiment),
    }


def questions(experiment: ExperimentResults) -> list[dict[str, Any]]:
    """The first test questions of each difficulty, with the answers of the models that were asked them.

    A variant that words its questions otherwise was asked others, and is left out.
    """
    runs = [run for run in experiment.runs if run.role != "baseline" and run.examples]
    if not runs:
        return []
    chosen = [
        example
        for difficulty in ("easy", "hard")
        for example in [row for row in runs[0].examples if row["kind"] == difficulty][:EXAMPLES_EACH]
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
    return {"system": run.label, "outcome": outcome, "text": shown or "(nothing)"}


def threats(experiment: ExperimentResults, tables: Tables) -> list[str]:
    """What limits this experiment, of what its kind alone has."""
    found = ["The other item of a pair is one that the user never rated, which is not the same as one not liked."]
    row = row_of(rows_of(tables, "tests"), run="base", kind="hard")
    found += resolution(row, "the untuned model on hard pairs", ".3f")
    answers = max((len(run.examples or ()) for run in experiment.runs), default=0)
    if answers:
        found.append(f"Free answers were asked for {count(answers, 'question')} of each model only.")
    return found
