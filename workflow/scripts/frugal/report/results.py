"""The result files of one study. A file that is not there reads as None and is listed as missing."""

import argparse
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from frugal.errors import FrugalError, first_line
from frugal.report.contents import LANGUAGE_MODELS, RECOMMENDERS
from frugal.report.study.others import check_others

BASELINE = "baseline_"
#: The run that an experiment's comparisons are about, where it is not called like the experiment.
PRINCIPAL = {"movie_preference": "tuned"} | dict.fromkeys(LANGUAGE_MODELS, "tuned")
#: Speed and memory by size and mode, of an experiment that measures them.
EFFICIENCY = "efficiency/measurements.json"
#: The memory ladder: memory and speed with each saving of memory.
LADDER = "ladder/measurements.json"
#: What people said of the answers to prompts; only where filled rating sheets are named.
RATINGS = "rating/ratings.json"
SHEET = "rating/sheet.html"


@dataclass(frozen=True)
class Missing:
    """Something that a complete report has, and the command that makes it."""

    what: str
    command: str


class Run:
    """One row of results: the untuned model, a trained variant, or a rule (a baseline without a Transformer)."""

    def __init__(self, folder: Path, experiment: str, name: str):
        self.folder, self.experiment, self.name = folder, experiment, name

    @property
    def role(self) -> str:
        """What kind of system it is: rule, untuned or trained."""
        return "rule" if self.name.startswith(BASELINE) else "untuned" if self.name == "base" else "trained"

    def expects(self, file: str) -> bool:
        """Whether a complete study has this file for this run."""
        if self.role == "rule":
            return file in ("metrics.json", "predictions.parquet")
        if self.experiment in RECOMMENDERS:
            return file != "examples.jsonl"
        if self.experiment in LANGUAGE_MODELS and file in ("predictions.parquet", "examples.jsonl"):
            return False
        return self.role == "trained" or file != "history.csv"

    def paths(self, file: str) -> list[Path]:
        """Where a complete study has this file of this run: nowhere, in its folder, or in one a seed."""
        if not self.expects(file):
            return []
        if self.experiment in RECOMMENDERS and file == "history.csv":
            return [self.folder / "seeds" / str(seed) / file for seed in self.seeds]
        return [self.folder / file]

    @property
    def seeds(self) -> list[int]:
        """The seeds that the settings ask for; empty where one model is all there is."""
        return (self.config or {}).get("seeds") or []

    @cached_property
    def record(self) -> dict[str, Any] | None:
        """The whole of metrics.json."""
        return _read(self.folder / "metrics.json", _json_object)

    @property
    def metrics(self) -> dict[str, float]:
        return (self.record or {}).get("metrics") or {}

    @property
    def intervals(self) -> dict[str, list[float]]:
        return (self.record or {}).get("intervals") or {}

    @property
    def std(self) -> dict[str, float]:
        """Standard deviations over seeds; empty for one seed."""
        return (self.record or {}).get("std") or {}

    @property
    def by_seed(self) -> dict[str, dict[str, float]]:
        """seed -> its metrics."""
        return (self.record or {}).get("by_seed") or {}

    @property
    def sampled(self) -> dict[str, float]:
        """Metrics of the targets among sampled negatives."""
        return (self.record or {}).get("sampled") or {}

    @property
    def training(self) -> dict[str, Any]:
        return (self.record or {}).get("training") or {}

    @property
    def minutes(self) -> float | None:
        """How long training took; None where it is not known."""
        return self.training["seconds"] / 60 if "seconds" in self.training else None

    @property
    def provenance(self) -> dict[str, Any]:
        return (self.record or {}).get("provenance") or {}

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
        files = zip(self.seeds, self.paths("history.csv"), strict=True)
        return {seed: _read(path, pd.read_csv) for seed, path in files if path.exists()}

    @cached_property
    def predictions(self) -> pd.DataFrame | None:
        """One row a test pair (user, kind, liked, other, p_liked_a, p_liked_b), or one a seed and user."""
        return _read(self.folder / "predictions.parquet", pd.read_parquet)

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


class Results:
    """The runs that a study expects, in the order of its tables, and the data that they used."""

    def __init__(
        self,
        root: Path | str,
        study: str,
        runs: Iterable[str],
        data: Path | str = "data",
        configfile: str | None = None,
        efficiency: Iterable[str] = (),
        ladder: Iterable[str] = (),
        compare: dict[str, Path | str] | None = None,
    ):
        """
        Args:
            root: the study's folder below results/.
            runs: `experiment/name` of every run that a complete study has.
            data: the folder that holds prepared/.
            configfile: the study's configuration, to be named in commands.
            efficiency: the experiments that measure speed and memory by size and mode.
            ladder: the experiments that measure the memory ladder.
            compare: name -> folder of other studies' results, which are set beside these.

        Raises:
            FrugalError: a run is not written as experiment/name.
        """
        self.root, self.study, self.data, self.configfile = Path(root), study, Path(data), configfile
        self.efficiency, self.ladder = set(efficiency), set(ladder)
        self.compare = {name: Path(folder) for name, folder in (compare or {}).items()}
        self.runs = []
        for run in runs:
            experiment, _, name = run.partition("/")
            if not experiment or not name or "/" in name:
                raise FrugalError(f"--runs: '{run}' must be experiment/name, such as movie_preference/base")
            self.runs.append(Run(self.root / experiment / name, experiment, name))

    def of(self, experiment: str) -> list[Run]:
        """The runs of one experiment."""
        return [run for run in self.runs if run.experiment == experiment]

    def trained(self, experiment: str) -> list[Run]:
        return [run for run in self.of(experiment) if run.role == "trained"]

    def find(self, experiment: str, name: str) -> Run | None:
        return next((run for run in self.of(experiment) if run.name == name), None)

    def principal(self, experiment: str) -> Run | None:
        """The run that the comparisons are about, or else the first trained one."""
        name = PRINCIPAL.get(experiment, experiment)
        return self.find(experiment, name) or next(iter(self.trained(experiment)), None)

    def datasets(self, experiment: str) -> list[str]:
        """Names of the data sets that the runs' configurations state, each once."""
        names = [(run.config or {}).get("dataset") for run in self.of(experiment)]
        return list(dict.fromkeys(name for name in names if name))

    def summary(self, dataset: str) -> dict[str, Any]:
        """What the preparation counted in a data set; empty when it is not there."""
        path = self.data / "prepared" / dataset / "summary.json"
        return _read(path, _json_object) or {}

    def manifest(self, dataset: str) -> pd.DataFrame | None:
        """One row a source document: document, title, pages, pages_skipped, characters, status, reason."""
        return _read(self.data / "prepared" / dataset / "manifest.parquet", pd.read_parquet)

    def blocks(self, run: Run) -> dict[str, Any]:
        """Counts of the documents, tokens and blocks of each part that a run trains and is tested on."""
        return _read(self._blocks_path(run), _json_object) or {}

    def _blocks_path(self, run: Run) -> Path:
        return self.data / "blocks" / self.study / run.experiment / run.name / "blocks.json"

    def measurements(self, experiment: str, file: str = EFFICIENCY) -> dict[str, Any]:
        """What was measured by size and mode, or by rung (`LADDER`), and the machine; empty when it was not."""
        return _read(self.root / experiment / file, _json_object) or {}

    def ratings(self, experiment: str) -> dict[str, Any]:
        """What people said of the answers; empty while nobody has."""
        return _read(self.root / experiment / RATINGS, _json_object) or {}

    def expects_ratings(self, experiment: str) -> bool:
        """Whether the settings name filled rating sheets."""
        return any(run.section("rating").get("sheets") for run in self.of(experiment))

    def missing(self, experiment: str, needs: Iterable[str], only_trained: bool = False) -> list["Missing"]:
        """The expected files that are not there; more than three become one entry.

        ``needs`` names files that every run has, `base/<file>` of one run, `summary.json` or
        `manifest.parquet` of the data sets, `blocks.json` of the trained runs, the measurements of
        efficiency or of the ladder, or the ratings.
        """
        whole = {
            EFFICIENCY: (experiment in self.efficiency, "measurements of efficiency"),
            LADDER: (experiment in self.ladder, "measurements of the memory ladder"),
            RATINGS: (self.expects_ratings(experiment), "ratings"),
        }
        expected = {}
        for need in needs:
            only, _, file = need.rpartition("/")
            if file in ("summary.json", "manifest.parquet"):
                names = self.datasets(experiment)
                expected |= {self.data / "prepared" / name / file: f"{file} of {name}" for name in names}
            elif need in whole:
                asked, what = whole[need]
                expected |= {self.root / experiment / need: f"{what} ({experiment})"} if asked else {}
            elif file == "blocks.json":
                expected |= {self._blocks_path(run): f"{file} of {run.name}" for run in self.trained(experiment)}
            else:
                runs = self.trained(experiment) if only_trained else self.of(experiment)
                runs = [run for run in runs if only in ("", run.name)]
                expected |= {path: _told(path, run) for run in runs for path in run.paths(file)}
        absent = {path: what for path, what in expected.items() if not path.exists()}
        if len(absent) > 3:
            return [Missing(", ".join(absent.values()), self.command(experiment))]
        return [Missing(what, self.command(path.as_posix())) for path, what in absent.items()]

    def command(self, target: str) -> str:
        """The command that makes a file or a named target."""
        configfile = f"--configfile {self.configfile} -- " if self.configfile else ""
        return f"snakemake {configfile}{target}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say where a study's results are."""
    parser.add_argument("--results", required=True, type=Path, help="the study's folder: results/<study>")
    parser.add_argument("--study", required=True, help="the study's name")
    parser.add_argument(
        "--runs", required=True, nargs="+", metavar="EXPERIMENT/NAME", help="every expected run, in order"
    )
    parser.add_argument("--data", default=Path("data"), type=Path, help="the folder that holds prepared/")
    parser.add_argument(
        "--efficiency", default=[], nargs="+", metavar="EXPERIMENT", help="experiments that measure speed and memory"
    )
    parser.add_argument(
        "--ladder", default=[], nargs="+", metavar="EXPERIMENT", help="experiments that measure the memory ladder"
    )
    parser.add_argument(
        "--compare", default=[], nargs="+", metavar="NAME=FOLDER", help="other studies' results, to be set beside these"
    )
    parser.add_argument("--configfile", help="the study's configuration, for the commands that are printed")


def from_arguments(args: argparse.Namespace) -> Results:
    """The results that the options name.

    Raises:
        FrugalError: a folder to compare with is not one of results, or a run is not written as experiment/name.
    """
    compare = dict(entry.partition("=")[::2] for entry in args.compare)
    check_others(compare, args.results)
    shared = (args.results, args.study, args.runs, args.data, args.configfile, args.efficiency, args.ladder)
    return Results(*shared, compare)


def _told(path: Path, run: Run) -> str:
    """A run's file in words: `history.csv of ssept, seed 2`."""
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
