"""The result files of one study. A file that is not there reads as None and is listed as missing."""

import argparse
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import pandas as pd
import yaml

from frugal.config.originals import Original, load_originals
from frugal.config.yaml_files import read_yaml
from frugal.errors import FrugalError, first_line
from frugal.kinds import BASE, KINDS
from frugal.report.contents import EFFICIENCY, LADDER, RATINGS, data_files, section_of
from frugal.report.study.others import check_others, found_runs

BASELINE = "baseline_"
SHEET = "rating/sheet.html"
#: Files of an experiment as messages call them.
WORDS = {EFFICIENCY: "measurements of efficiency", LADDER: "measurements of the memory ladder", RATINGS: "ratings"}
#: What is beside the runs: of the data sets, of a trained run's blocks.
PREPARED = ("summary.json", "manifest.parquet", "blocks.json")


@dataclass(frozen=True)
class Missing:
    """Something that a complete report has, and the command that makes it."""

    what: str
    command: str


def _part(name: str) -> Any:
    """A property of `Run`: a part of its record."""
    return property(lambda run: (run.record or {}).get(name) or {})


class Run:
    """One row of results: the untuned model, a trained variant, or a baseline.

    Attributes:
        files: what a complete study has of it, below its folder.
        label: its name in tables and figures.
    """

    def __init__(self, experiment: "ExperimentResults", name: str, files: Iterable[str]):
        self.experiment, self.name, self.files = experiment, name, list(files)
        self.folder = experiment.folder / name
        self.label: str = section_of(experiment.kind).LABELS.get(name, name)

    @property
    def role(self) -> str:
        """What kind of system it is: baseline, untuned or trained."""
        return "baseline" if self.name.startswith(BASELINE) else "untuned" if self.name == BASE else "trained"

    def paths(self, file: str) -> list[Path]:
        """Where a complete study has this file of this run: nowhere, in its folder, or in one for each seed."""
        return [self.folder / path for path in self.files if Path(path).name == file]

    @property
    def seeds(self) -> list[int]:
        """The seeds that the settings ask for; empty where one model is all there is."""
        return (self.config or {}).get("seeds") or []

    @cached_property
    def record(self) -> dict[str, Any] | None:
        """The whole of metrics.json."""
        return _read(self.folder / "metrics.json", _json_object)

    # Parts of metrics.json, empty where it lacks them: `std` is over seeds, `by_seed` has each one's metrics, `sampled`
    # those among sampled negatives.
    metrics, intervals, std, by_seed, sampled, training, provenance = map(
        _part, ("metrics", "intervals", "std", "by_seed", "sampled", "training", "provenance")
    )

    @property
    def left_out(self) -> str:
        """Why it was not scored; empty where it was."""
        return (self.record or {}).get("left_out") or ""

    @property
    def compute_dtype(self) -> str | None:
        """The type of its matmuls: of the training, or of the evaluation where nothing was trained."""
        return self.training.get("compute_dtype") or self.provenance.get("compute_dtype")

    @property
    def dtype_reason(self) -> str | None:
        """Why it computed in that type."""
        return self.training.get("compute_dtype_reason") or self.provenance.get("compute_dtype_reason")

    @property
    def minutes(self) -> float | None:
        """How long training took; None where it is not known."""
        return self.training["seconds"] / 60 if "seconds" in self.training else None

    @cached_property
    def config(self) -> dict[str, Any] | None:
        """The run's resolved settings."""
        return _read(self.folder / "config.yaml", _yaml_object)

    def section(self, name: str) -> dict[str, Any]:
        """One section of the run's settings; empty where they lack it."""
        return (self.config or {}).get(name) or {}

    @cached_property
    def history(self) -> pd.DataFrame | None:
        """The loss history: step, loss, ..."""
        return _read(self.folder / "history.csv", pd.read_csv)

    @cached_property
    def histories(self) -> dict[int, pd.DataFrame]:
        """seed -> its training: step, seconds, ..., NDCG@10 on validation; seeds without a file are left out."""
        paths = {int(path.parent.name): path for path in self.paths("history.csv") if path.exists()}
        return {seed: _read(path, pd.read_csv) for seed, path in paths.items()}

    @cached_property
    def predictions(self) -> pd.DataFrame | None:
        """One row a test pair (user, kind, liked, other, p_liked_a, p_liked_b), or one a seed and user."""
        return _read(self.folder / "predictions.parquet", pd.read_parquet)

    @cached_property
    def beyond(self) -> dict[str, Any] | None:
        """Of a recommender: what its lists hold, and its metrics by groups of users and targets."""
        return _read(self.folder / "beyond.json", _json_object)

    @cached_property
    def groups(self) -> pd.DataFrame | None:
        """Of a recommender: one row a user in a group (user, by, group, HR@10, NDCG@10), means over seeds."""
        return _read(self.folder / "groups.parquet", pd.read_parquet)

    @cached_property
    def examples(self) -> list[dict[str, Any]] | None:
        """Free answers: kind, input, expected, answer, valid, correct."""
        return _read(self.folder / "examples.jsonl", _json_lines)

    @cached_property
    def documents(self) -> pd.DataFrame | None:
        """One row a test document: document, tokens (scored), nll (their sum, nats), correct, words, bytes."""
        return _read(self.folder / "documents.parquet", pd.read_parquet)

    @cached_property
    def answers(self) -> list[dict[str, Any]] | None:
        """What the model wrote after each prompt: prompt, answer, tokens, seconds."""
        return _read(self.folder / "answers.jsonl", _json_lines)


class ExperimentResults:
    """The runs that an experiment expects, in the order of its tables, and the data that they used.

    Attributes:
        files: what a complete study has beside its runs, below the experiment's folder.
        tables, figures: the parts of the names of its tables and figures.
        original: what config/originals.yaml states of the original that it reproduces; None where it reproduces none.
    """

    def __init__(self, study: "Results", name: str, entry: dict[str, Any]):
        self.study, self.name, self.folder = study, name, study.root / name
        self.kind, self.title, self.reproduces = KINDS[entry["kind"]], entry["title"], entry["reproduces"]
        self.original: Original | None = load_originals()[self.reproduces] if self.reproduces else None
        self.files, self.datasets = list(entry["files"]), list(entry["datasets"])
        self.tables, self.figures = list(entry["tables"]), list(entry["figures"])
        self.runs = [Run(self, run, files) for run, files in entry["runs"].items()]
        self.principal = self.find(entry["principal"]) or next(iter(self.trained), None)

    @property
    def section(self) -> ModuleType:
        """The module of its kind's section: layouts, drawings, text."""
        return import_module(f"{self.kind.section}.section")

    @property
    def trained(self) -> list[Run]:
        return [run for run in self.runs if run.role == "trained"]

    def find(self, name: str) -> Run | None:
        return next((run for run in self.runs if run.name == name), None)

    def summary(self, dataset: str) -> dict[str, Any]:
        """What the preparation counted in a data set; empty when it is not there."""
        return _read(self.study.data / "prepared" / dataset / "summary.json", _json_object) or {}

    def manifest(self, dataset: str) -> pd.DataFrame | None:
        """One row a source document: document, title, pages, pages_skipped, characters, status, reason."""
        return _read(self.study.data / "prepared" / dataset / "manifest.parquet", pd.read_parquet)

    def blocks(self, run: Run) -> dict[str, Any]:
        """Counts of the documents, tokens and blocks of each part that a run trains and is tested on."""
        path = self.study.data / "blocks" / self.study.name / self.name / run.name / "blocks.json"
        return _read(path, _json_object) or {}

    def read(self, file: str) -> dict[str, Any]:
        """One of `files`: what was measured, or what people said of the answers; empty when it is not there."""
        return _read(self.folder / file, _json_object) or {}

    def missing(self, needs: Iterable[str], only_trained: bool = False) -> list[Missing]:
        """The expected files that are not there; more than three become one entry.

        ``needs`` names files that every run has, `base/<file>` of one run, files of the data (`PREPARED`), or of
        the experiment (`files`).
        """
        expected = {}
        for need in needs:
            only, _, file = need.rpartition("/")
            if file in PREPARED:
                paths = [self.study.data / path for path in data_files(self.study.described, self.name)]
                found = [path for path in paths if path.name == file]
                expected |= {path: f"{file} of {path.parent.name}" for path in found}
            elif need in WORDS:
                expected |= {self.folder / need: f"{WORDS[need]} ({self.name})"} if need in self.files else {}
            else:
                runs = [run for run in (self.trained if only_trained else self.runs) if only in ("", run.name)]
                expected |= {path: _told(path, run) for run in runs for path in run.paths(file)}
        absent = {path: what for path, what in expected.items() if not path.exists()}
        if len(absent) > 3:
            return [Missing(", ".join(absent.values()), self.study.command(self.name))]
        return [Missing(what, self.study.command(path.as_posix())) for path, what in absent.items()]


class Results:
    """What a study leaves behind, and what it should: the experiments by name, in the order of its configuration.

    Args:
        root: the study's folder below results/.
        described: what its study.yaml holds, as `frugal.report.contents.describe` gives it.
        data: the folder that holds prepared/ and blocks/.
    """

    def __init__(self, root: Path | str, described: dict[str, Any], data: Path | str = "data"):
        self.root, self.data, self.described = Path(root), Path(data), described
        self.name: str = described["study"]
        self.options: str | None = described.get("options")
        settings = described.get("report") or {}
        self.notes: list[str] = settings.get("threats") or []
        self.compare = {name: Path(folder) for name, folder in (settings.get("compare") or {}).items()}
        self.experiments = {
            name: ExperimentResults(self, name, entry) for name, entry in described["experiments"].items()
        }

    @classmethod
    def read(cls, path: Path, data: Path | str = "data") -> Self:
        """The results beside a study.yaml.

        Raises:
            FrugalError: the file is not there or holds no study, or a folder to compare with holds no results.
        """
        again = f"delete it and run `snakemake {path}`"
        if not path.exists():
            raise FrugalError(f"{path}: there is no such file; run `snakemake {path}`")
        try:
            results = cls(path.parent, read_yaml(path), data)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise FrugalError(f"{path}: does not describe a study ({first_line(error)}); {again}") from None
        check_others(results.compare, results.root, results.described)
        return results

    @property
    def runs(self) -> list[Run]:
        return [run for experiment in self.experiments.values() for run in experiment.runs]

    @cached_property
    def others(self) -> dict[str, "Results"]:
        """The other studies by the names that the configuration gives them: the experiments that this one has too."""
        found = {}
        for name, folder in self.compare.items():
            entries = {
                experiment: entry | {"runs": dict.fromkeys(runs, ())}
                for experiment, entry in self.described["experiments"].items()
                if (runs := found_runs(folder, experiment))
            }
            found[name] = Results(folder, {"study": name, "experiments": entries})
        return found

    def command(self, target: str) -> str:
        """The command that makes a file or a named target."""
        options = f"{self.options} -- " if self.options else ""
        return f"snakemake {options}{target}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say where a study's results are."""
    parser.add_argument("--study", required=True, type=Path, help="results/<study>/study.yaml; its results beside it")
    parser.add_argument("--data", default=Path("data"), type=Path, help="the folder that holds prepared/ and blocks/")


def _told(path: Path, run: Run) -> str:
    """A run's file in words: `history.csv of wide, seed 2`."""
    return f"{path.name} of {run.name}" + (f", seed {path.parent.name}" if path.parent != run.folder else "")


def _json_object(path: Path) -> dict[str, Any]:
    return _object(json.loads(path.read_text(encoding="utf-8")))


def _json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def _yaml_object(path: Path) -> dict[str, Any]:
    return _object(yaml.safe_load(path.read_text(encoding="utf-8")))


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("it holds no keys and values")
    return value


def _read(path: Path, read: Callable[[Path], Any]) -> Any:
    """What ``read`` makes of the file; None when there is none.

    Raises:
        FrugalError: the file is there and cannot be understood.
    """
    if not path.exists():
        return None
    try:
        return read(path)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise FrugalError(
            f"{path}: cannot be read ({first_line(error)}); delete it and run `snakemake {path}`"
        ) from None
