"""The stages of dvc.yaml that run Snakemake: the rules that each may run, and the files that it makes and needs.

The graph is Snakemake's. A stage names the part of it that may run, so that a report can never start a training.
"""

from dataclasses import dataclass
from pathlib import Path

from frugal.config.sources import source_kind
from frugal.config.study import Study
from frugal.errors import FrugalError
from frugal.kinds import BASE, LANGUAGE_MODELING, PREFERENCE, RECOMMENDATION
from frugal.report.contents import REPORT_FORMATS, describe, result_files

#: stage -> its rules; every rule of the workflow is in exactly one, those named after experiments in `train`.
RULES = {
    "data": (
        "data",
        "models",
        "fetch",
        "prepare_interactions",
        "prepare_documents",
        "prepare_model",
    ),
    "train": (
        "preflight",
        "check_machine",
        "write_run_config",
        "make_preference_pairs",
        "train_preference",
        "evaluate_preference",
        "score_preference_baselines",
        "partition_interactions",
        "train_recommender",
        "evaluate_recommender",
        "score_recommender_baselines",
        "measure_efficiency",
        "leave_out_test",
        "search_settings",
        "search",
        "pack_blocks",
        "train_language_model",
        "evaluate_language_model",
        "climb_memory_ladder",
        "write_rating_sheet",
        "read_ratings",
        "describe_adapter",
    ),
    "report": (
        "all",
        "describe_study",
        "tables",
        "figures",
        "report",
        "make_tables",
        "plot_figures",
        "write_report",
        "compile_report",
    ),
}
#: Rules that a report is always made anew by: file times say nothing after a checkout.
REPORT_JOBS = ("make_tables", "plot_figures", "write_report")


@dataclass(frozen=True)
class VersionedStudy:
    """A study as DVC versions it."""

    study: Study

    @property
    def results(self) -> Path:
        return Path("results") / self.study.name

    @property
    def datasets(self) -> list[str]:
        runs = [run for experiment in self.study.experiments.values() for run in experiment.runs.values()]
        return sorted({run.dataset for run in runs})

    @property
    def base_models(self) -> list[str]:
        experiments = [one for one in self.study.experiments.values() if one.kind.has_base_model]
        return sorted({run.base_model for experiment in experiments for run in experiment.runs.values()})

    def trained_models(self) -> list[Path]:
        """The folder of every adapter and every model that the study trains."""
        return [
            self.results / name / variant / part
            for name, experiment in self.study.experiments.items()
            for variant, run in experiment.runs.items()
            if variant != BASE
            for part in (
                ["adapter"] if experiment.kind.has_base_model else [f"seeds/{seed}/model" for seed in run.seeds]
            )
        ]

    def jobs_file(self, stage: str) -> Path:
        """Where a stage's jobs are recorded."""
        return self.results / "dvc" / f"jobs-{stage}.json"

    def code_file(self, stage: str) -> Path:
        """Where the hashes of a stage's code are."""
        return self.results / "dvc" / f"code-{stage}.json"

    def prepared(self) -> list[Path]:
        """What trainings read beside the prepared data sets, of the kinds that the study has."""
        name, of_kind = self.study.name, self.study.of_kind
        folders = [Path("data/sequences")] if of_kind(RECOMMENDATION) else []
        folders += [Path("data/pairs") / name] if of_kind(PREFERENCE) else []
        return folders + ([Path("data/blocks") / name] if of_kind(LANGUAGE_MODELING) else [])

    def rules(self, stage: str) -> list[str]:
        """The rules that may run in a stage."""
        return [*RULES[stage], *(self.study.experiments if stage == "train" else ())]

    def outputs(self, stage: str) -> list[Path]:
        """What Snakemake makes in a stage; dvc.yaml has the same. A report's PDF depends on what is installed."""
        if stage == "data":
            return [Path("data/raw"), Path("data/prepared"), Path("data/models")]
        if stage == "train":
            return self.prepared() + [self.results / experiment for experiment in self.study.experiments]
        names = ["tables", "figures", *(f"report.{format}" for format in REPORT_FORMATS)]
        return [self.results / "report" / name for name in names]

    def targets(self, stage: str) -> list[str]:
        """What Snakemake is asked for in a stage."""
        if stage == "data":
            models = self.study.models
            downloaded = [name for name in self.base_models if "random" not in map(source_kind, models[name].sources)]
            return ["data", "models", *(f"data/raw/{name}" for name in [*self.datasets, *downloaded])]
        if stage == "train":
            return [*self.study.experiments, *map(str, self.trained_models())]
        return ["report"]

    def report_needs(self) -> list[Path]:
        """What has to be here for the report, trained models and the records of all jobs included; no raw data."""
        return [
            *(Path("data/prepared") / name for name in self.datasets),
            *(folder for folder in self.prepared() if folder.is_relative_to("data/blocks")),
            *(self.results / experiment for experiment in self.study.experiments),
            self.jobs_file("data"),
            self.jobs_file("train"),
        ]

    def check_models(self) -> None:
        """Every trained model is here, and every language model's adapter has its card.

        Raises:
            FrugalError: naming each that is missing.
        """
        folders = self.trained_models()
        missing = [folder for folder in folders if not any(folder.glob("*.safetensors"))]
        cards = [folder.parent / "README.md" for folder in folders if folder.name == "adapter"]
        missing += [card for card in cards if not card.exists()]
        if missing:
            names = "\n  ".join(map(str, missing))
            raise FrugalError(
                f"missing, and a report trains nothing:\n  {names}\n"
                f"`dvc pull {missing[0]}` brings a versioned one back, `dvc repro train` makes it anew"
            )

    def check_results(self) -> None:
        """Every result file that the report is made of is here: results of earlier code may lack some.

        Raises:
            FrugalError: naming the first that is missing.
        """
        described = describe(self.study)
        names = [f"{name}/{file}" for name in described["experiments"] for file in result_files(described, name)]
        files = [self.results / name for name in names]
        missing = [file for file in files if not file.exists()]
        if missing:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise FrugalError(
                f"{missing[0]}: missing{more}, and a report makes no results; `dvc repro train` makes what is missing, "
                "and trains no model again whose code and settings are the same"
            )
