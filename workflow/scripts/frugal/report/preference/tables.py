"""The tables of an experiment on preferences, from its result files."""

from functools import partial
from typing import Any

from scipy.stats import binomtest

from frugal.preference.metrics import pair_accuracy
from frugal.report.frames import (
    Builder,
    Rows,
    adapted,
    compared,
    metric_values,
    provenance,
    system_values,
    tie_order,
    training_values,
)
from frugal.report.preference.layouts import LAYOUTS
from frugal.report.results import ExperimentResults, Run
from frugal.stats import compare

DIFFICULTIES = ("all", "easy", "hard")


def has_options(run: Run) -> bool:
    """Whether the run chooses between options A and B; unknown counts as yes."""
    return (run.section("pairs").get("format") or "contrastive") == "contrastive"


def metrics(experiment: ExperimentResults, part: str, with_baselines: bool = False) -> Rows:
    """The metrics that a layout names, a row a run that can have them."""
    columns = LAYOUTS[part].columns[1:]
    runs = [run for run in experiment.runs if with_baselines or run.role != "baseline"]
    return [system_values(run) | metric_values(run, columns) for run in runs]


def calibration(experiment: ExperimentResults) -> Rows:
    """Probabilities of all systems, with the interval of the share of free answers that answer nothing."""
    rows = metrics(experiment, "calibration", with_baselines=True)
    for row, run in zip(rows, experiment.runs, strict=True):
        if run.examples:
            invalid = sum(not one["valid"] for one in run.examples)
            lower, upper = binomtest(invalid, len(run.examples)).proportion_ci(method="wilson")
            row |= {"invalid_answer_rate_lower": lower, "invalid_answer_rate_upper": upper}
    return rows


def data(experiment: ExperimentResults) -> Rows:
    """One row a data set: what was kept of it, and the pairs that were made."""
    base, principal = experiment.find("base"), experiment.principal
    rows = []
    for dataset in experiment.datasets:
        summary = experiment.summary(dataset)
        row = {key: summary.get(key) for key in ("users", "items", "density")}
        row |= {"dataset": dataset, "ratings": summary.get("rows_kept"), "skipped": _skipped(summary)}
        ties = summary.get("ties") or {}
        row |= {"tied_ends": ties.get("at_end"), "tied_steps": ties.get("elsewhere"), "tie_order": tie_order(summary)}
        if base is not None and base.config and base.config.get("dataset") == dataset:
            row["train_pairs"] = principal.training.get("examples") if principal else None
            row["train_shortened"] = principal.training.get("shortened_histories") if principal else None
            row["test_shortened"] = base.metrics.get("shortened_histories")
            if base.predictions is not None:
                counts = base.predictions["kind"].value_counts()
                row |= {f"test_pairs_{one}": counts.get(one, 0) for one in ("easy", "hard")}
                row["test_users"] = base.predictions["user"].nunique()
        rows.append(row)
    return rows


def _skipped(summary: dict[str, Any]) -> int | None:
    """Rows read and not kept, for whichever reason."""
    if "rows_read" not in summary or "rows_kept" not in summary:
        return None
    return summary["rows_read"] - summary["rows_kept"]


def tests(experiment: ExperimentResults) -> Rows:
    """The principal run against every other one, on all, easy and hard pairs."""
    principal, rows = experiment.principal, []
    for other in (run for run in experiment.runs if run is not principal):
        sides = [run.predictions for run in (principal, other)]
        for difficulty in DIFFICULTIES:
            found = None
            if all(side is not None for side in sides):
                chosen = [side if difficulty == "all" else side[side["kind"] == difficulty] for side in sides]
                found = compare(*map(pair_accuracy, chosen))
            rows.append(compared(principal, other, found) | {"kind": difficulty})
    return rows


def shortcut(experiment: ExperimentResults) -> Rows:
    """Accuracy where the right answer is always A beside accuracy over both orders."""
    runs = [run for run in experiment.runs if run.role != "baseline"]
    rows = []
    for row, run in zip(metrics(experiment, "shortcut"), runs, strict=True):
        if has_options(run):
            known = None not in (row["accuracy_liked_first"], row["accuracy"])
            rows.append(row | {"gap": row["accuracy_liked_first"] - row["accuracy"] if known else None})
    return rows


def training(experiment: ExperimentResults) -> Rows:
    """The training record of every trained run."""
    layout = LAYOUTS["training"]
    return [training_values(run, layout) | {"adapted": adapted(run.training)} for run in experiment.trained]


BUILDERS: dict[str, Builder] = {
    "data": data,
    "accuracy": partial(metrics, part="accuracy", with_baselines=True),
    "calibration": calibration,
    "tests": tests,
    "shortcut": shortcut,
    "training": training,
    "inference": partial(metrics, part="inference"),
    "provenance": provenance,
}
