"""The source of each column of each table: a path in a result file, or a computation from result files.

A source is a function of a cell's place. It gives the value that the cell must have, or True or False where it has
judged the cell itself.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pandas as pd
from scipy.stats import binomtest

from . import statistics
from .study import BASELINE, Study, mentions


@dataclass(frozen=True)
class Cell:
    """One cell: of an experiment's table, with its row and all rows."""

    study: Study
    experiment: str
    column: str
    row: pd.Series
    frame: pd.DataFrame

    @property
    def shown(self) -> Any:
        return self.row[self.column]

    @property
    def run(self) -> str:
        return self.row["run"]

    @property
    def record(self) -> dict[str, Any]:
        return self.study.record(self.experiment, self.run)

    @property
    def training(self) -> dict[str, Any]:
        return self.study.training(self.experiment, self.run)

    @property
    def config(self) -> dict[str, Any]:
        """A run's settings; those of the principal run for a baseline, which has none."""
        principal = self.study.principal(self.experiment)
        return self.study.config(self.experiment, principal if self.run.startswith(BASELINE) else self.run)

    @property
    def hardware(self) -> dict[str, Any]:
        return self.record.get("provenance", {}).get("hardware") or {}


Source = Callable[[Cell], Any]

#: Columns that say which row it is, by which the other columns of the row are looked up; a wrong name finds nothing.
KEYS = {
    "system",
    "run",
    "role",
    "first",
    "second",
    "kind",
    "k",
    "size",
    "mode",
    "rung",
    "criterion",
    "experiment",
    "id",
}
KEYS |= {"dataset", "study", "original", "names", "runs", "total", "source"}
STATED = {
    "claim": "the statement in words; its number is the column value",
    "unit": "a word",
    "finding": "whether it is one, as the claim says",
}
#: Columns without a result file, and why they need none.
EXEMPT = {
    "anchors": {
        "published": "the literature's number: a constant with its source in the code",
        "published_words": "the literature's number: a constant with its source in the code",
        "model": "the name of a published model",
    },
    "claims": STATED,
    "claims_settings": STATED,
    "claims_verdicts": {"title": "the write-up's title"},
}


def inside(value: Any, path: tuple[str, ...]) -> Any:
    """What stands at a path of keys; None where it leads nowhere."""
    for part in path:
        value = (value or {}).get(part)
    return value


def at(*path: str) -> Source:
    """A place in metrics.json, such as training, steps."""
    return lambda cell: inside(cell.record, path)


def setting(*path: str) -> Source:
    """A place in the run's config.yaml."""
    return lambda cell: inside(cell.config, path)


def score(cell: Cell) -> float | None:
    """A metric, or an end of its interval, or its spread over seeds."""
    name, _, part = cell.column.rpartition("_")
    if part in ("lower", "upper"):
        bounds = cell.record.get("intervals", {}).get(name)
        return bounds[part == "upper"] if bounds else None
    if part == "std":
        return cell.record.get("std", {}).get(name)
    return cell.record.get("metrics", {}).get(cell.column)


def trained(cell: Cell) -> Any:
    """A number of the training record, under the column's name."""
    return cell.training.get(cell.column)


def adapted(cell: Cell) -> bool:
    """Each name with the number of its layers that have an adapter, and that the model has."""
    having, there = (cell.training.get(name) or {} for name in ("adapted_modules", "linear_modules"))
    shown = {}
    for group in cell.shown.split("; ") if isinstance(cell.shown, str) else ():
        names, numbers = group.split(": ")
        shown |= dict.fromkeys(names.split(", "), tuple(int(n.replace(",", "")) for n in numbers.split(" of ")))
    return shown == {name: (count, there[name]) for name, count in having.items()}


def minutes(cell: Cell) -> float | None:
    return cell.training["seconds"] / 60 if "seconds" in cell.training else None


def told(*parts: str) -> Source:
    """Text whose numbers must all stand in these parts of the run: config, hardware, or a place in metrics.json."""

    def source(cell: Cell) -> bool:
        known = {"config": cell.config, "hardware": cell.hardware}
        return pd.isna(cell.shown) or mentions(cell.shown, *(known.get(part, cell.record.get(part)) for part in parts))

    return source


# What several tables have in common.
HARDWARE = {
    "processor": lambda cell: cell.hardware.get("processor"),
    "cores": lambda cell: cell.hardware.get("cores"),
    "memory_gb": lambda cell: cell.hardware["memory_mb"] / 1024,
    "gpus": lambda cell: ", ".join(gpu["name"] for gpu in cell.hardware["gpus"]) or None,
}


def inputs(cell: Cell) -> str | None:
    named = cell.record["provenance"]["inputs"].items()
    return ", ".join(f"{name} {digest[:12]}" for name, digest in named if name != "config") or None


def seeds(cell: Cell) -> str | None:
    """The seeds of a run's trainings, or the one that its result was made with."""
    several = None if cell.run.startswith(BASELINE) else cell.config.get("seeds")
    recommends = cell.study.kind(cell.experiment) == "recommendation"
    one = None if recommends else cell.record["provenance"].get("seed")
    return ", ".join(map(str, several or ([] if one is None else [one]))) or None


PROVENANCE = HARDWARE | {
    "seed_list": seeds,
    "commit": lambda cell: (
        cell.shown == cell.record["provenance"]["commit"][:12] + cell.record["provenance"]["commit"][40:]
    ),
    "config": lambda cell: (cell.record["provenance"]["inputs"].get("config") or "")[:12] or None,
    "inputs": inputs,
    "protocol": told("config"),
}


@cache
def cases_of(study: Study, experiment: str, first: str, second: str, kind: str) -> statistics.Cases:
    """What two runs are compared over, from their predictions or documents."""
    modeling = study.kind(experiment) == "language_modeling"
    file = "documents.parquet" if modeling else "predictions.parquet"
    sides = [study.frame(f"{experiment}/{name}/{file}") for name in (first, second)]
    if modeling:
        return statistics.by_document(*sides)
    if study.kind(experiment) == "recommendation":
        return statistics.by_user(*sides)
    return statistics.by_pair(*(side if kind == "all" else side[side["kind"] == kind] for side in sides))


def compared(first: Callable[[Cell], str], second: Callable[[Cell], str | None]) -> dict[str, Source]:
    """The columns of a paired test of two runs; without a second one they are empty."""

    def on_cases(judge: Callable[[Cell, statistics.Cases], Any], least: int = 2) -> Source:
        def source(cell: Cell) -> Any:
            if second(cell) is None:
                return None
            found = cases_of(cell.study, cell.experiment, first(cell), second(cell), cell.row.get("kind", "all"))
            return judge(cell, found) if len(found) >= least else None

        return source

    def relative(cell: Cell, cases: statistics.Cases) -> float:
        predictions = cell.study.frame(f"{cell.experiment}/{second(cell)}/predictions.parquet")
        return cases.mean / predictions.groupby("user")["NDCG@10"].mean().mean()

    def adjusted(cell: Cell) -> float | None:
        if "p" not in cell.frame:  # no row has a second run
            return None
        return statistics.holm(list(cell.frame["p"]))[list(cell.frame.index).index(cell.row.name)]

    def ratio(cell: Cell) -> float:
        other = {"ratio": "difference", "ratio_lower": "difference_upper", "ratio_upper": "difference_lower"}
        return math.exp(-cell.row[other[cell.column]])

    return dict.fromkeys(("ratio", "ratio_lower", "ratio_upper"), ratio) | {
        "difference": on_cases(lambda cell, cases: cases.mean),
        "difference_lower": on_cases(lambda cell, cases: statistics.is_bound(cell.shown, cases, 0.025)),
        "difference_upper": on_cases(lambda cell, cases: statistics.is_bound(cell.shown, cases, 0.975)),
        "p": on_cases(lambda cell, cases: statistics.is_p(cell.shown, cases)),
        "effect": on_cases(lambda cell, cases: statistics.effect(cases)),
        "relative": on_cases(relative),
        "pairs": on_cases(lambda cell, cases: cases.pairs),
        "users": on_cases(lambda cell, cases: len(cases)),
        "documents": on_cases(lambda cell, cases: len(cases), least=1),
        "p_holm": adjusted,
        "verdict": lambda cell: None if pd.isna(cell.row.get("p")) else statistics.verdict(cell.row),
    }


def principal(cell: Cell) -> str:
    return cell.study.principal(cell.experiment)


def invalid(cell: Cell) -> float | None:
    answers = cell.study.root / cell.experiment / cell.run / "examples.jsonl"
    if not answers.exists():
        return None
    valid = [row["valid"] for row in cell.study.lines(f"{cell.experiment}/{cell.run}/examples.jsonl")]
    interval = binomtest(valid.count(False), len(valid)).proportion_ci(method="wilson")
    return interval.high if cell.column.endswith("upper") else interval.low


def summary(name: str) -> Source:
    return lambda cell: cell.study.prepared(cell.row["dataset"]).get(name)


def ties(name: str) -> Source:
    return lambda cell: summary("ties")(cell)[name]


def tie_order(cell: Cell) -> str:
    if ties("order")(cell) == "file":
        return "that of the file"
    return f"random (seed {ties('seed')(cell)})"


def test_pairs(cell: Cell) -> int:
    predictions = cell.study.frame(f"{cell.experiment}/base/predictions.parquet")
    return int((predictions["kind"] == cell.column.split("_")[2]).sum())


PREFERENCE: dict[str, dict[str, Source]] = {
    "data": {
        "dataset": lambda cell: cell.study.config(cell.experiment, "base")["dataset"],
        "users": summary("users"),
        "items": summary("items"),
        "ratings": summary("rows_kept"),
        "skipped": lambda cell: summary("rows_read")(cell) - summary("rows_kept")(cell),
        "density": summary("density"),
        "tied_ends": ties("at_end"),
        "tied_steps": ties("elsewhere"),
        "tie_order": tie_order,
        "train_pairs": lambda cell: cell.study.training(cell.experiment, principal(cell))["examples"],
        "train_shortened": lambda cell: cell.study.training(cell.experiment, principal(cell))["shortened_histories"],
        "test_shortened": lambda cell: cell.study.record(cell.experiment, "base")["metrics"]["shortened_histories"],
        "test_pairs_easy": test_pairs,
        "test_pairs_hard": test_pairs,
        "test_users": lambda cell: cell.study.frame(f"{cell.experiment}/base/predictions.parquet")["user"].nunique(),
    },
    "accuracy": {"*": score},
    "calibration": {"invalid_answer_rate_lower": invalid, "invalid_answer_rate_upper": invalid, "*": score},
    "inference": {"*": score},
    "shortcut": {"gap": lambda cell: cell.row["accuracy_liked_first"] - cell.row["accuracy"], "*": score},
    "tests": compared(principal, lambda cell: cell.run),
    "training": {"minutes": minutes, "adapted": adapted, "*": trained},
    "provenance": PROVENANCE,
}
