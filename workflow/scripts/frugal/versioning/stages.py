"""The three stages of dvc.yaml: the rules that each may run, and the files that it makes and needs.

The graph is Snakemake's. A stage names the part of it that may run, so that a report can never start a training.
"""

from dataclasses import dataclass
from pathlib import Path

from frugal.config.base import Settings
from frugal.config.registry import kind_of, load_models
from frugal.config.study import BASE, RECOMMENDERS, RUN_MODELS, load_study, resolve
from frugal.config.yaml_files import read_yaml
from frugal.errors import FrugalError
from frugal.report.contents import REPORT_FORMATS

#: stage -> its rules; every rule of the workflow is in exactly one.
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
        *RUN_MODELS,
        "preflight",
        "check_machine",
        "write_run_config",
        "make_preference_pairs",
        "train_movie_preference",
        "evaluate_movie_preference",
        "score_preference_baselines",
        "partition_interactions",
        "train_recommender",
        "evaluate_recommender",
        "score_recommender_baselines",
        "measure_efficiency",
        "pack_blocks",
        "train_language_model",
        "evaluate_language_model",
        "climb_memory_ladder",
        "write_rating_sheet",
        "read_ratings",
        "describe_adapter",
    ),
    "report": ("all", "tables", "figures", "report", "make_tables", "plot_figures", "write_report", "compile_report"),
}
#: Rules that a report is always made anew by: file times say nothing after a checkout.
REPORT_JOBS = ("make_tables", "plot_figures", "write_report")


@dataclass(frozen=True)
class VersionedStudy:
    """A study's name and its resolved runs: experiment -> variant -> settings, the untrained base models included."""

    name: str
    runs: dict[str, dict[str, Settings]]

    @classmethod
    def load(cls, configfile: Path) -> "VersionedStudy":
        """Read a study.

        Raises:
            FrugalError: the configuration is faulty.
        """
        data = read_yaml(configfile)
        study = load_study(data, str(configfile))
        runs = {
            experiment: {
                variant: resolve(data, experiment, variant, str(configfile))
                for variant in (
                    *([] if experiment in RECOMMENDERS else [BASE]),
                    *getattr(study, experiment).variants,
                )
            }
            for experiment in RUN_MODELS
        }
        return cls(study.study, runs)

    @property
    def results(self) -> Path:
        return Path("results") / self.name

    @property
    def datasets(self) -> list[str]:
        return sorted({run.dataset for runs in self.runs.values() for run in runs.values()})

    @property
    def base_models(self) -> list[str]:
        experiments = [name for name in self.runs if name not in RECOMMENDERS]
        return sorted({run.base_model for name in experiments for run in self.runs[name].values()})

    def trained_models(self) -> list[Path]:
        """The folder of every adapter and every model that the study trains."""
        return [
            self.results / experiment / variant / part
            for experiment, runs in self.runs.items()
            for variant, run in runs.items()
            if variant != BASE
            for part in ([f"seeds/{seed}/model" for seed in run.seeds] if experiment in RECOMMENDERS else ["adapter"])
        ]

    def jobs_file(self, stage: str) -> Path:
        """Where a stage's jobs are recorded."""
        return self.results / "dvc" / f"jobs-{stage}.json"

    def outputs(self, stage: str) -> list[Path]:
        """What Snakemake makes in a stage; dvc.yaml has the same. A report's PDF depends on what is installed."""
        if stage == "data":
            return [Path("data/raw"), Path("data/prepared"), Path("data/models")]
        if stage == "train":
            prepared = [Path("data/sequences"), Path("data/pairs") / self.name, Path("data/blocks") / self.name]
            return prepared + [self.results / experiment for experiment in self.runs]
        names = ["tables", "figures", *(f"report.{format}" for format in REPORT_FORMATS)]
        return [self.results / "report" / name for name in names]

    def targets(self, stage: str, models: Path = Path("config/models.yaml")) -> list[str]:
        """What Snakemake is asked for in a stage."""
        if stage == "data":
            table = load_models(models)
            downloaded = [name for name in self.base_models if "random" not in map(kind_of, table[name].sources)]
            return ["data", "models", *(f"data/raw/{name}" for name in [*self.datasets, *downloaded])]
        if stage == "train":
            return [*self.runs, *map(str, self.trained_models())]
        return ["report"]

    def report_needs(self) -> list[Path]:
        """What has to be here for the report, trained models and the records of all jobs included; no raw data."""
        return [
            *(Path("data/prepared") / name for name in self.datasets),
            Path("data/blocks") / self.name,
            *(self.results / experiment for experiment in self.runs),
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
