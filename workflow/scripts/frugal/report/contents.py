"""What the report holds, and what it is made of: the description of a study that Snakemake writes for its scripts.

Snakemake reads this when it starts; the module therefore imports nothing that is slow.
"""

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from frugal.config.base import plain
from frugal.config.registry import DatasetEntry
from frugal.config.sources import source_kind
from frugal.config.study import Experiment, Study
from frugal.kinds import BASE, KINDS, LANGUAGE_MODELING, PREFERENCE, Kind

TABLE_FORMATS = ("csv", "md", "tex")
FIGURE_FORMATS = ("svg", "pdf")
REPORT_FORMATS = ("md", "html", "tex")
#: What all experiments have in common: what training cost, and the machines beside those of the originals.
STUDY_TABLES = ("efficiency", "machines")
#: The tables of the claims ledger, which are made with the report itself.
CLAIMS_TABLES = ("claims_verdicts", "claims", "claims_settings")
#: The ledger beside them, with its types.
CLAIMS_FILE = "claims.parquet"
#: Speed and memory by size and mode, of an experiment that measures them.
EFFICIENCY = "efficiency/measurements.json"
#: The memory ladder: memory and speed with each saving of memory.
LADDER = "ladder/measurements.json"
#: What people said of the answers to prompts; only where filled rating sheets are named.
RATINGS = "rating/ratings.json"


def section_of(kind: Kind) -> ModuleType:
    """The package of a kind's section; its module `section` has the layouts, drawings and text."""
    return import_module(kind.section)


def across(experiment: str) -> str:
    """The table of an experiment's results in this study and in others."""
    return f"across_{experiment}"


def describe(study: Study, options: str | None = None) -> dict[str, Any]:
    """What results/<study>/study.yaml holds: the experiments, and each file that the report is made of.

    Args:
        options: Snakemake's that name the study's configuration in commands; None for the default one.
    """
    adapters = study.of_kind(PREFERENCE, LANGUAGE_MODELING).values()
    used = {run.base_model for experiment in adapters for run in experiment.runs.values()} & study.models.keys()
    return {
        "study": study.name,
        "experiments": {
            name: {
                "kind": experiment.kind.name,
                "title": experiment.settings.title,
                "reproduces": experiment.settings.reproduces,
                "principal": experiment.principal,
                **_parts(experiment, study.datasets),
            }
            for name, experiment in study.experiments.items()
        },
        "report": plain(study.report),
        "options": options,
        "random_models": sorted(name for name in used if "random" in map(source_kind, study.models[name].sources)),
    }


def _parts(experiment: Experiment, datasets: Mapping[str, DatasetEntry]) -> dict[str, Any]:
    """An experiment's runs with their files, its other files and its data, and the parts of its tables and figures.

    Files are below the folder of the experiment, those of a run below its own.
    """
    section = section_of(experiment.kind)
    names = list(dict.fromkeys(run.dataset for run in (experiment.shared, *experiment.runs.values())))
    formats = {source.format for name in names if name in datasets for source in datasets[name].sources}
    tables, figures = section.contents(experiment, formats)
    runs = {name: ["metrics.json", *section.BASELINE_FILES] for name in experiment.baseline_runs}
    for name, run in experiment.runs.items():
        histories = [f"seeds/{seed}/history.csv" for seed in getattr(run, "seeds", ())] or ["history.csv"]
        files = ["config.yaml", "metrics.json", *section.RUN_FILES]
        runs[name] = files + (histories if name != BASE else [])
    measured = {EFFICIENCY: "efficiency", LADDER: "ladder", RATINGS: "ratings"}
    return {
        "runs": runs,
        "files": [file for file, part in measured.items() if part in tables],
        "datasets": names,
        "tables": tables,
        "figures": figures,
    }


def data_files(described: dict[str, Any], name: str) -> list[str]:
    """The files below data/ that an experiment's part of the report is made of."""
    experiment = described["experiments"][name]
    documents = KINDS[experiment["kind"]].reads == "documents"
    kept = ["summary.json", "manifest.parquet"] if documents else ["summary.json"]
    files = [f"prepared/{dataset}/{file}" for dataset in experiment["datasets"] for file in kept]
    trained = [run for run, files in experiment["runs"].items() if run != BASE and "config.yaml" in files]
    return files + [f"blocks/{described['study']}/{name}/{run}/blocks.json" for run in trained if documents]


def result_files(described: dict[str, Any], name: str) -> list[str]:
    """The files below results/<study>/<experiment> that its part of the report is made of."""
    experiment = described["experiments"][name]
    return [f"{run}/{file}" for run, files in experiment["runs"].items() for file in files] + experiment["files"]


def reproduces_any(described: dict[str, Any]) -> bool:
    """Whether the report has a ledger of claims: some experiment reproduces an original."""
    return any(experiment["reproduces"] for experiment in described["experiments"].values())
