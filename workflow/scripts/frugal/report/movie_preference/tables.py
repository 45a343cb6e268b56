"""The tables of the `movie_preference` experiment, from its result files."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from frugal.report.frames import frame, metric_values, provenance_values, system_values
from frugal.report.movie_preference.layouts import LAYOUTS
from frugal.report.results import Results, Run
from frugal.report.statistics import compare, wilson, with_verdicts
from frugal.report.tables import Table

EXPERIMENT = "movie_preference"
KINDS = {"all": "", "easy": "_easy", "hard": "_hard"}
LABELS = {
    "base": "untuned model",
    "baseline_always_a": "always A (rule)",
    "baseline_popularity": "popularity (rule)",
    "baseline_genre_overlap": "shared genres (rule)",
    "baseline_ease": "EASE",
}


def build(name: str, results: Results) -> Table:
    """One table of this experiment; rows of missing results are there and empty."""
    return Table(name, LAYOUTS[name], BUILDERS[name](results))


def label(run: Run) -> str:
    """A run as tables and figures call it."""
    return LABELS.get(run.name, run.name)


def has_options(run: Run) -> bool:
    """Whether the run chooses between options A and B; unknown counts as yes."""
    return run.section("pairs").get("format") != "next_film"


def metric_rows(name: str) -> Callable[[Results], pd.DataFrame]:
    """A builder: the metrics that the layout names, a row a run that can have them."""

    def rows(results: Results) -> pd.DataFrame:
        columns = LAYOUTS[name].columns[1:]
        with_rules = name in ("movie_preference_accuracy", "movie_preference_calibration")
        runs = [run for run in results.of(EXPERIMENT) if with_rules or run.role != "rule"]
        if name == "movie_preference_shortcut":
            runs = [run for run in runs if has_options(run)]
        values = [_system(run) | metric_values(run, columns) for run in runs]
        if name == "movie_preference_calibration":
            values = [row | _invalid_interval(run) for row, run in zip(values, runs, strict=True)]
        return frame(LAYOUTS[name], values)

    return rows


def _invalid_interval(run: Run) -> dict[str, float]:
    """The interval of the share of free answers that answer nothing; without any answer none."""
    if not run.examples:
        return {}
    lower, upper = wilson(sum(not row["valid"] for row in run.examples), len(run.examples))
    return {"invalid_answer_rate_lower": lower, "invalid_answer_rate_upper": upper}


def _system(run: Run) -> dict[str, Any]:
    return system_values(run, label(run))


def data(results: Results) -> pd.DataFrame:
    """One row a data set: what was kept of it, and the pairs that were made."""
    base, principal = results.find(EXPERIMENT, "base"), results.principal(EXPERIMENT)
    pairs = base.predictions if base is not None else None
    rows = []
    for dataset in results.datasets(EXPERIMENT) or [None]:
        summary = results.summary(dataset) if dataset else {}
        row = {key: summary.get(key) for key in ("users", "density")}
        row |= {
            "dataset": dataset,
            "films": summary.get("items"),
            "ratings": summary.get("rows_kept"),
            "skipped": _skipped(summary),
            "ties": summary.get("ties_at_last_position"),
        }
        if base is not None and base.config and base.config.get("dataset") == dataset:
            row["train_pairs"] = principal.training.get("examples") if principal else None
            if pairs is not None:
                kinds = pairs["kind"].value_counts()
                row |= {f"test_pairs_{kind}": kinds.get(kind, 0) for kind in ("easy", "hard")}
                row["test_users"] = pairs["user"].nunique()
        rows.append(row)
    return frame(LAYOUTS["movie_preference_data"], rows)


def _skipped(summary: dict[str, Any]) -> int | None:
    """Rows read and not kept, for whichever reason."""
    if "rows_read" not in summary or "rows_kept" not in summary:
        return None
    return summary["rows_read"] - summary["rows_kept"]


def tests(results: Results) -> pd.DataFrame:
    """The principal run against every other one, on all, easy and hard pairs."""
    principal = results.principal(EXPERIMENT)
    others = [run for run in results.of(EXPERIMENT) if run is not principal]
    rows = []
    for other in others if principal else ():
        for kind in KINDS:
            row: dict[str, Any] = {"first": label(principal), "second": label(other), "kind": kind}
            row["run"] = other.name
            sides = [run.predictions for run in (principal, other)]
            if all(side is not None for side in sides):
                found = compare(*(side if kind == "all" else side[side["kind"] == kind] for side in sides))
                row |= vars(found) if found else {}
            rows.append(row)
    return with_verdicts(frame(LAYOUTS["movie_preference_tests"], rows))


def shortcut(results: Results) -> pd.DataFrame:
    """Accuracy where the right answer is always A beside accuracy over both orders."""
    rows = metric_rows("movie_preference_shortcut")(results)
    rows["gap"] = rows["accuracy_liked_first"].astype(float) - rows["accuracy"].astype(float)
    return rows


def training(results: Results) -> pd.DataFrame:
    """The training record of every trained run."""
    names = [column.name for column in LAYOUTS["movie_preference_training"].columns[1:]]
    rows = []
    for run in results.trained(EXPERIMENT):
        rows.append(_system(run) | {name: run.training.get(name) for name in names} | {"minutes": run.minutes})
    return frame(LAYOUTS["movie_preference_training"], rows)


def provenance(results: Results) -> pd.DataFrame:
    """Seed, commit, inputs and machine of every result."""
    rows = []
    for run in results.of(EXPERIMENT):
        record = run.provenance
        test = ((record.get("inputs") or {}).get("test") or "")[:12] or None
        rows.append(_system(run) | provenance_values(run) | {"seed": record.get("seed"), "test": test})
    return frame(LAYOUTS["movie_preference_provenance"], rows)


BUILDERS: dict[str, Callable[[Results], pd.DataFrame]] = {
    "movie_preference_data": data,
    "movie_preference_accuracy": metric_rows("movie_preference_accuracy"),
    "movie_preference_calibration": metric_rows("movie_preference_calibration"),
    "movie_preference_tests": tests,
    "movie_preference_shortcut": shortcut,
    "movie_preference_training": training,
    "movie_preference_inference": metric_rows("movie_preference_inference"),
    "movie_preference_provenance": provenance,
}
