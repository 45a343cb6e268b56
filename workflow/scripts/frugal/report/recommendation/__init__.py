"""The report's section on an experiment of the kind `recommendation`: the catalogue, ranked for each user."""

from typing import Any

from frugal.config.study import Experiment

#: A run's folder -> how tables and figures call it, where that is another name.
LABELS = {
    "baseline_popularity": "popularity",
    "baseline_item_knn": "ItemKNN",
    "baseline_ease": "EASE",
    "baseline_ease_recency": "EASE with recency",
    "baseline_markov": "Markov chain",
}
#: What a run and a baseline leave behind beside metrics.json.
RUN_FILES = BASELINE_FILES = ("predictions.parquet", "beyond.json", "groups.parquet")
#: Settings of `model` that are its size.
SIZE = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")


def contents(experiment: Experiment, formats: set[str]) -> tuple[list[str], list[str]]:
    """The parts of its tables' and of its figures' names.

    Args:
        formats: of its data sets, as config/datasets.yaml has them.
    """
    runs = list(experiment.runs.values())
    scaling = ["scaling"] * (len(_sizes(experiment)) > 1)
    efficiency = ["efficiency"] * (experiment.efficiency is not None)
    tables = [
        *["data", "ranking"],
        *["cutoffs"] * any(run.evaluation.cutoffs != [10] for run in (experiment.shared, *runs)),
        "tests",
        *["sampled"] * any(run.evaluation.sampled_negatives for run in (experiment.shared, *runs)),
        *["beyond", "groups"],
        *scaling,
        *["adapters"] * any(run.adapter.method != "none" for run in runs),
        *["training", *efficiency, "provenance"],
    ]
    return tables, ["ranking", "convergence", "groups", *scaling, *efficiency]


def _sizes(experiment: Experiment) -> set[tuple[Any, ...]]:
    """The sizes of the models that are like the principal one in everything else that makes runs comparable."""
    principal = experiment.runs[experiment.principal]
    return {
        tuple(getattr(run.model, name) for name in SIZE)
        for run in experiment.runs.values()
        if run.model.architecture == principal.model.architecture
        and (run.dataset, run.data) == (principal.dataset, principal.data)
        and run.adapter.method == "none"
        and run.warm_start is None
    }
