"""The tables of the `movie_preference` experiment, from its result files."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from frugal.report.frames import frame, metric_values, provenance_values
from frugal.report.results import Results, Run
from frugal.report.statistics import compare, with_verdicts
from frugal.report.tables import Column, Layout, Table

EXPERIMENT = "movie_preference"
KINDS = {"all": "", "easy": "_easy", "hard": "_hard"}
LABELS = {
    "base": "untuned model",
    "baseline_always_a": "always A (rule)",
    "baseline_popularity": "popularity (rule)",
    "baseline_genre_overlap": "shared genres (rule)",
    "baseline_ease": "EASE",
}
SYSTEM = Column("system", "System")
LAYOUTS = {
    "movie_preference_data": Layout(
        "Data. A tie at the end is a user whose last rating shares its time with another one.",
        (
            Column("dataset", "Data set"),
            Column("users", "Users", ",d"),
            Column("films", "Films", ",d"),
            Column("ratings", "Ratings", ",d"),
            Column("skipped", "Rows skipped", ",d"),
            Column("density", "Density, %", ".2%"),
            Column("ties", "Users with a tie at the end", ",d"),
            Column("train_pairs", "Training pairs", ",d"),
            Column("test_pairs_easy", "Easy test pairs", ",d"),
            Column("test_pairs_hard", "Hard test pairs", ",d"),
            Column("test_users", "Test users", ",d"),
        ),
        needs=("base/config.yaml", "summary.json", "base/predictions.parquet"),
    ),
    "movie_preference_accuracy": Layout(
        "Accuracy: the share of questions answered rightly, each test pair asked in both orders, "
        "with 95 % intervals over resampled users. Guessing gives 0.5.",
        (
            SYSTEM,
            Column("accuracy", "All pairs", ".3f", interval=True, best="max"),
            Column("accuracy_easy", "Easy pairs", ".3f", interval=True, best="max"),
            Column("accuracy_hard", "Hard pairs", ".3f", interval=True, best="max"),
            Column("accuracy_liked_first", "Liked film is A", ".3f"),
            Column("swap_consistency", "Same film in both orders", ".3f"),
        ),
        group="role",
    ),
    "movie_preference_calibration": Layout(
        "Probabilities: P(A) is the mean probability of answering A, 0.5 without a position bias; "
        "rules state no probabilities.",
        (
            SYSTEM,
            Column("auc", "AUC", ".3f", interval=True, best="max"),
            Column("auc_easy", "AUC, easy", ".3f", best="max"),
            Column("auc_hard", "AUC, hard", ".3f", best="max"),
            Column("p_a", "P(A)", ".3f"),
            Column("brier", "Brier score", ".3f", best="min"),
            Column("ece", "Calibration error", ".3f", best="min"),
            Column("answer_mass", "Mass on A and B", ".3f", optional=True),
            Column("invalid_answer_rate", "Invalid answers, %", ".1%", best="min", optional=True),
        ),
        group="role",
    ),
    "movie_preference_tests": Layout(
        "The trained model against each other system on the same test pairs: difference in accuracy, "
        "paired bootstrap over users, p values adjusted by Holm's method over all rows. A difference is "
        "found where the interval leaves out zero and the adjusted p is below 0.05.",
        (
            Column("second", "Compared with"),
            Column("kind", "Pairs"),
            Column("pairs", "Count", ",d"),
            Column("difference", "Difference", "+.3f", interval=True),
            Column("p", "p", "p"),
            Column("p_holm", "p, Holm", "p"),
            Column("verdict", "The trained model is"),
        ),
        needs=("predictions.parquet",),
        keys=2,
        group="second",
    ),
    "movie_preference_shortcut": Layout(
        "The shortcut: what a test set whose right answer is always Option A would show, beside the "
        "accuracy over both orders of the same pairs.",
        (
            SYSTEM,
            Column("accuracy_liked_first", "Right answer always A", ".3f", interval=True),
            Column("accuracy", "Both orders", ".3f", interval=True, best="max"),
            Column("gap", "Overstated by", "+.3f"),
            Column("p_a", "P(A)", ".3f", interval=True),
        ),
        group="role",
    ),
    "movie_preference_training": Layout(
        "What training cost. Memory is the peak of the process; the share of peak counts 4 operations "
        "per weight and token against a large matrix product on the same machine.",
        (
            Column("system", "Run"),
            Column("steps", "Steps", ",d"),
            Column("examples", "Examples", ",d"),
            Column("tokens", "Tokens", ",d"),
            Column("minutes", "Minutes", ".2f"),
            Column("tokens_per_second", "Tokens per second", ",.0f", best="max"),
            Column("trainable_parameters", "Weights trained", ",d"),
            Column("trainable_share", "Share of weights, %", ".3%"),
            Column("peak_rss_mb", "Memory, MB", ",.0f", best="min"),
            Column("peak_device_mb", "GPU memory, MB", ",.0f", best="min", optional=True),
            Column("matmul_peak_share", "Share of peak, %", ".1%", best="max"),
            Column("final_loss", "Final loss", ".3f"),
        ),
    ),
    "movie_preference_inference": Layout(
        "What answering costs: scoring a pair takes both orders, a recommendation is a free answer.",
        (
            SYSTEM,
            Column("base_model_mb", "Model, MB", ",.1f"),
            Column("seconds_per_scored_pair", "Seconds per scored pair", ".3f", best="min"),
            Column("seconds_per_recommendation", "Seconds per recommendation", ".2f", best="min"),
            Column("peak_rss_mb", "Memory, MB", ",.0f", best="min"),
            Column("peak_device_mb", "GPU memory, MB", ",.0f", best="min", optional=True),
        ),
    ),
    "movie_preference_provenance": Layout(
        "Where each result comes from: the beginnings of the commit and of the SHA-256 of its inputs.",
        (
            SYSTEM,
            Column("seed", "Seed", "d"),
            Column("commit", "Commit"),
            Column("config", "Settings"),
            Column("test", "Test pairs"),
            Column("processor", "Processor"),
            Column("cores", "Cores", "d"),
            Column("memory_gb", "Memory, GB", ".0f"),
            Column("gpus", "GPUs", optional=True),
        ),
    ),
}


def build(name: str, results: Results) -> Table:
    """One table of this experiment; rows of missing results are there and empty."""
    return Table(name, LAYOUTS[name], BUILDERS[name](results))


def label(run: Run) -> str:
    """A run as tables and figures call it."""
    return LABELS.get(run.name, run.name)


def has_options(run: Run) -> bool:
    """Whether the run chooses between options A and B; unknown counts as yes."""
    return ((run.config or {}).get("pairs") or {}).get("format") != "next_film"


def metric_rows(name: str) -> Callable[[Results], pd.DataFrame]:
    """A builder: the metrics that the layout names, a row a run that can have them."""

    def rows(results: Results) -> pd.DataFrame:
        columns = LAYOUTS[name].columns[1:]
        with_rules = name in ("movie_preference_accuracy", "movie_preference_calibration")
        runs = [run for run in results.of(EXPERIMENT) if with_rules or run.role != "rule"]
        if name == "movie_preference_shortcut":
            runs = [run for run in runs if has_options(run)]
        return frame(LAYOUTS[name], [_system(run) | metric_values(run, columns) for run in runs])

    return rows


def _system(run: Run) -> dict[str, Any]:
    return {"system": label(run), "run": run.name, "role": run.role}


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
        record = dict(run.training)
        if "seconds" in record:
            record["minutes"] = record["seconds"] / 60
        rows.append(_system(run) | {name: record.get(name) for name in names})
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
