"""The report's section on an experiment of the kind `preference`: which of two items a user would like."""

from frugal.config.study import Experiment

#: A run's folder -> how tables and figures call it, where that is another name.
LABELS = {
    "base": "untuned model",
    "baseline_always_a": "always A (baseline)",
    "baseline_popularity": "popularity (baseline)",
    "baseline_attribute_overlap": "shared attributes (baseline)",
    "baseline_ease": "EASE",
}
#: What an evaluation writes beside metrics.json.
RUN_FILES = ("predictions.parquet", "examples.jsonl")
#: What a baseline leaves behind beside metrics.json.
BASELINE_FILES = ("predictions.parquet",)


def contents(experiment: Experiment, formats: set[str]) -> tuple[list[str], list[str]]:
    """The parts of its tables' and of its figures' names.

    Args:
        formats: of its data sets, as config/datasets.yaml has them.
    """
    # Without options there is no position to prefer.
    options = any(run.pairs.format == "contrastive" for run in experiment.runs.values())
    tables = ["data", "accuracy", "calibration", "tests", *["shortcut"] * options, "training", "inference"]
    return [*tables, "provenance"], ["accuracy", *["position_bias"] * options, "loss"]
