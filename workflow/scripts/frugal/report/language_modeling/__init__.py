"""The report's section on an experiment of the kind `language_modeling`: a language model learns a corpus."""

from frugal.config.study import Experiment
from frugal.report import originals

#: A run's folder -> how tables and figures call it, where that is another name.
LABELS = {"base": "untuned model"}
#: What an evaluation writes beside metrics.json.
RUN_FILES = ("documents.parquet", "answers.jsonl")
#: What a baseline leaves behind beside metrics.json; the kind has none.
BASELINE_FILES = ()


def contents(experiment: Experiment, formats: set[str]) -> tuple[list[str], list[str]]:
    """The parts of its tables' and of its figures' names.

    Args:
        formats: of its data sets, as config/datasets.yaml has them.
    """
    ladder = ["ladder"] * (experiment.ladder is not None)
    tables = [
        *["data", *["manifest"] * ("pdf" in formats), "perplexity", "tests", "training", "cost", *ladder],
        *["prompts"] * any(run.prompts.texts for run in experiment.runs.values()),
        *["ratings"] * bool(experiment.shared.rating.sheets),
        *["anchors"] * hasattr(originals.load(experiment.settings.reproduces), "ANCHORS"),
        "provenance",
    ]
    return tables, ["perplexity", "loss", *ladder]
