"""The sections on `wikitext` and `climate`: their tables, their figures, and what their text is composed from."""

from typing import Any

from frugal.report.frames import software
from frugal.report.language_models.figures import DRAWINGS
from frugal.report.language_models.findings import blanks, findings, headline
from frugal.report.language_models.layouts import LAYOUTS
from frugal.report.language_models.originals import ORIGINALS
from frugal.report.language_models.tables import answers, build, data, label
from frugal.report.results import LADDER, SHEET, Results
from frugal.report.tables import Table
from frugal.report.wording import beginning

__all__ = ["DRAWINGS", "LAYOUTS", "build", "context"]

TITLES = {"wikitext": "Language model on Wikipedia text", "climate": "Language model on climate documents"}
LONGEST_ANSWER = 600


def context(experiment: str, results: Results, tables: dict[str, Table | None]) -> dict[str, Any]:
    """What the section's templates can name."""
    principal = results.principal(experiment)
    name = principal.name if principal else None
    measured = results.measurements(experiment, LADDER)
    measures_ladder = experiment in results.ladder or bool(measured)
    ratings = results.ratings(experiment)
    return {
        "name": experiment,
        "kind": "language_model",
        "title": TITLES[experiment],
        "headline": headline(tables, experiment, name),
        "findings": findings(tables, experiment, name, measures_ladder),
        "config": (principal.config if principal else None) or {},
        "principal": label(principal) if principal else None,
        "notes": [note for name in results.datasets(experiment) for note in results.summary(name).get("notes") or ()],
        "skipped": {row["dataset"]: row["reasons"] for row in data(results, experiment) if row["reasons"]},
        "answers": [_passages(row, label(principal)) for row in answers(results, experiment)],
        "measures_ladder": measures_ladder,
        "ladder": measured,
        "rated": bool(ratings) or results.expects_ratings(experiment),
        "raters": ratings.get("raters"),
        "rating_note": ratings.get("note"),
        "sheet": (results.root / experiment / SHEET).as_posix(),
        "blanks": blanks(tables, experiment, name, measures_ladder) if experiment == "climate" else {},
        "original": ORIGINALS[experiment],
        "software": software(results.of(experiment), label),
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
