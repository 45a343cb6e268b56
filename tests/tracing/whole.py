"""The sources of the tables of the study as a whole, and of the claims ledger."""

from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from frugal.claims import analytic  # its formulas have tests of their own; here it is only asked for its numbers

from .sources import Cell, Source, minutes, score, told, trained
from .study import BASELINE, Study

CLAIMS = Path(__file__).parents[2] / "config" / "claims.yaml"


def per_second(cell: Cell) -> float | None:
    name = (
        "target_positions_per_second" if cell.study.kind(cell.experiment) == "recommendation" else "tokens_per_second"
    )
    return cell.training.get(name)


def trainings(cell: Cell) -> int:
    return len(cell.study.seeds(cell.experiment, cell.run)) or 1


def settings(cell: Cell) -> str | None:
    """Whether the run's settings are those of this study; of baselines and of runs that it lacks nothing is said."""
    own = cell.frame.attrs["study"].config(cell.experiment, cell.run)
    here = cell.study.config(cell.experiment, cell.run)
    if cell.study is cell.frame.attrs["study"] or not own or not here:
        return None
    return "the same" if own == here else "others"


def agrees(cell: Cell) -> str | None:
    """Whether the intervals of every score overlap with this study's; of this study itself nothing is said."""
    home = cell.frame.attrs["study"]
    if cell.study is home:
        return None
    here, there = (study.record(cell.experiment, cell.run).get("intervals") or {} for study in (home, cell.study))
    shown = [name for name in here if name in cell.frame.columns and name in there]
    overlaps = [max(here[name][0], there[name][0]) <= min(here[name][1], there[name][1]) for name in shown]
    return ("yes" if all(overlaps) else "no") if overlaps else None


def compute_dtype(cell: Cell) -> str | None:
    """Of the training, or of the evaluation of a run that trained nothing."""
    return cell.training.get("compute_dtype") or cell.record.get("provenance", {}).get("compute_dtype")


COST = {"compute_dtype": compute_dtype, "minutes": minutes, "per_second": per_second, "device": told("hardware")}
EFFICIENCY = COST | {"trainings": trainings, "*": trained}
TRAINED = (
    "parameters",
    "trainable_parameters",
    "trainable_share",
    "peak_rss_mb",
    "peak_device_mb",
    "matmul_peak_share",
)
ACROSS: dict[str, Source] = {
    **COST,
    "data": told("config"),
    "model": lambda cell: None if cell.run.startswith(BASELINE) else cell.config.get("base_model"),
    "settings": settings,
    "agrees": agrees,
    **dict.fromkeys(TRAINED, trained),
    "*": score,
}


def hardware_of(study: Study) -> list[dict[str, Any]]:
    """The machine of every result of a study."""
    records = [study.json(str(path.relative_to(study.root))) for path in study.root.glob("*/*/metrics.json")]
    return [record["provenance"]["hardware"] for record in records]


def machine(cell: Cell) -> Any:
    """A column of a machine that measured results; the originals' hardware is stated, not measured."""
    if cell.row["original"] == "yes":
        return True if cell.column in ("gpus", "experiments") else None
    described = [
        {
            "processor": hardware["processor"],
            "cores": hardware["cores"],
            "memory_gb": hardware["memory_mb"] / 1024,
            "gpus": ", ".join(gpu["name"] for gpu in hardware["gpus"]) or "none",
            "instructions": hardware.get("instructions"),
        }
        for hardware in hardware_of(cell.study)
    ]
    alike = [one for one in described if all(one[name] == cell.row[name] for name in one if one[name] is not None)]
    if cell.column == "compute_dtypes":
        return pd.isna(cell.shown) or cell.shown.split(" ")[0] in ("float32", "bfloat16", "float16")
    if cell.column == "experiments":
        return set(cell.shown.split(", ")) <= cell.study.titles.keys() and bool(alike)
    return len(alike) if cell.column == "results" else alike[0][cell.column]


@cache
def all_claims() -> dict[str, Any]:
    return yaml.safe_load(CLAIMS.read_text(encoding="utf-8"))


def claim(cell: Cell) -> dict[str, Any]:
    original, name = cell.row["id"].split(".")
    return all_claims()[original][name]


def answer(cell: Cell) -> float | None:
    """What the claim's computation gives where it is a number, or what stands in the result file that it names."""
    stated = claim(cell)
    if "analytic" in stated:
        value = getattr(analytic, stated["analytic"])(**stated.get("arguments", {}))
        if not isinstance(value, analytic.Bounds):
            return value
    asked, experiment = stated.get("result"), cell.study.reproducing(cell.row["original"])
    if not asked or not experiment:
        return None
    folder = f"{experiment}/{asked['variant']}"
    if "row" in asked:
        measured = cell.study.json(f"{folder}/measurements.json")
        rows = [one for one in measured.get("rows", measured.get("rungs", [])) if asked["row"].items() <= one.items()]
        return rows[0].get(asked["key"]) if rows else None
    part, name = asked["key"].split(".", 1)
    return (cell.study.json(f"{folder}/metrics.json").get(part) or {}).get(name)


def words(cell: Cell) -> bool:
    """Text: the verdict and its reason have tests of their own, beside the computations."""
    return isinstance(cell.shown, str)


CLAIM: dict[str, Source] = {"value": lambda cell: claim(cell)["value"], "answer": answer, "verdict": words, "by": words}


def verdicts(cell: Cell) -> int:
    """How many rows of the ledger have this verdict, of one source or of all."""
    ledger = pd.read_csv(cell.study.root / "report" / "tables" / "claims.csv", lineterminator="\n")
    if not cell.row["total"]:
        ledger = ledger[ledger["original"] == cell.row["original"]]
    return len(ledger) if cell.column == "all" else int((ledger["verdict"] == cell.column.replace("_", " ")).sum())
