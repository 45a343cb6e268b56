"""The section on an experiment on plain text: its tables, its figures, and what its text is composed from."""

from typing import Any

from frugal.report.contents import LADDER, RATINGS
from frugal.report.frames import dataset_of as data_of
from frugal.report.language_modeling.figures import DRAWINGS
from frugal.report.language_modeling.findings import findings, headline
from frugal.report.language_modeling.layouts import LAYOUTS
from frugal.report.language_modeling.tables import BUILDERS, answers, data
from frugal.report.results import SHEET, ExperimentResults
from frugal.report.tables import Column
from frugal.report.wording import Tables, beginning, count
from frugal.stats import FEW

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
    Column("perplexity", "Perplexity", ",.2f", interval=True),
    Column("bits_per_byte", "Bits per byte", ".3f", interval=True),
    Column("token_accuracy", "Next-token accuracy", ".3f", interval=True),
)
#: The one of them that a sentence names.
COMPARED = SCORES[0]
SPEED = ("tokens_per_second", "Tokens per second")
LONGEST_ANSWER = 600


def context(experiment: ExperimentResults, tables: Tables) -> dict[str, Any]:
    """What the section's template names beside what all have."""
    ratings = experiment.read(RATINGS) if "ratings" in experiment.tables else {}
    return {
        "notes": [note for name in experiment.datasets for note in experiment.summary(name).get("notes") or ()],
        "skipped": {row["dataset"]: row["reasons"] for row in data(experiment) if row["reasons"]},
        "answers": [_passages(row, experiment.principal.label) for row in answers(experiment)],
        "ladder": experiment.read(LADDER) if "ladder" in experiment.tables else {},
        "raters": ratings.get("raters"),
        "rating_note": ratings.get("note"),
        "sheet": (experiment.folder / SHEET).as_posix(),
    }


def _passages(row: dict[str, str], tuned: str) -> dict[str, Any]:
    """A prompt, and both answers cut where they become too long to read."""
    systems = {"base": "untuned model", "tuned": tuned}
    return {
        "prompt": row["prompt"],
        "passages": [
            {"system": system, "text": beginning(row[name], LONGEST_ANSWER) or "(nothing)"}
            for name, system in systems.items()
        ],
    }


def threats(experiment: ExperimentResults, tables: Tables) -> list[str]:
    """What limits this experiment, of what its kind alone has."""
    found, run = [], experiment.principal
    documents = run.documents
    if documents is not None:
        number = int((documents["tokens"] > 0).sum())
        few = ", too few for precise intervals" if number < FEW else ""
        found.append(f"Intervals resample {count(number, 'test document')}{few}.")
    limit = run.section("corpus").get("max_test_tokens")
    if limit:
        found.append(f"Of each test document only the first {limit:,d} tokens are scored.")
    window = run.section("evaluation")
    length, stride = window.get("context_length"), window.get("stride")
    if length and stride:
        found.append(
            f"A token is scored with at least {length - stride:,d} tokens of context, where its text is that long; "
            "more context would lower all perplexities."
        )
    if run.compute_dtype in ("bfloat16", "float16"):
        found.append(f"The models compute in {run.compute_dtype}, which rounds each loss.")
    if any(one.answers for one in experiment.runs):
        found.append("Each answer to a prompt was drawn once; another seed would give other words.")
    ratings = experiment.read(RATINGS)
    if not ratings:
        found.append("Nobody has rated the answers: perplexity says nothing of whether they are good.")
    elif ratings.get("raters") == 1:
        found.append("One person has rated the answers: agreement between raters is not known.")
    return found + _ladder_threats(experiment.read(LADDER))


def _ladder_threats(measured: dict[str, Any]) -> list[str]:
    rungs = [rung for rung in measured.get("rungs") or () if not rung.get("error")]
    if not rungs:
        return []
    found = [
        f"Each rung of the memory ladder was measured once, over {count(measured.get('steps') or 0, 'step')}: enough "
        "for memory, few for speed."
    ]
    if not (measured.get("hardware") or {}).get("gpus"):
        found.append("Without a GPU the ladder's memory is that of the whole process, its libraries included.")
    return found
