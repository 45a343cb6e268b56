"""Other studies' results, such as those of another machine, that a report sets beside its own.

Snakemake looks into their folders when it starts; this module therefore imports little.
"""

import json
from pathlib import Path
from typing import Any

from frugal.errors import FrugalError, first_line
from frugal.report.contents import TABLES

#: What every metrics.json has.
PARTS = ("metrics", "provenance")


def check_others(compare: dict[str, str], own: Path | str) -> list[str]:
    """The files that a comparison reads, of all folders in their order.

    Args:
        compare: name -> folder of a study's results, as `report.compare` states it.
        own: the folder of the study whose report it is.

    Raises:
        FrugalError: a folder is not there, holds no results, holds others than this version writes, or is ``own``.
    """
    files = []
    for name, folder in compare.items():
        where, path = f"report.compare.{name}: {folder}", Path(folder)
        if not path.is_dir():
            raise FrugalError(f"{where}: there is no such folder; name one with a study's results, as results/full")
        if path.resolve() == Path(own).resolve():
            raise FrugalError(f"{where}: this is the study itself; name the folder of another one")
        if name == Path(own).name:
            raise FrugalError(f"{where}: this study is called {name} itself; give the other one another name")
        runs = found_runs(path)
        if not runs:
            raise FrugalError(
                f"{where}: holds no results, that is no <experiment>/<run>/metrics.json; copy all of a study's folder "
                "below results/, or take the entry out"
            )
        for run in runs:
            _check(path / run / "metrics.json", where)
            files += [str(file) for file in (path / run / "metrics.json", path / run / "config.yaml") if file.exists()]
    return files


def compared_experiments(compare: dict[str, Path | str]) -> list[str]:
    """The experiments that any of the folders has results of."""
    runs = [run for folder in compare.values() for run in found_runs(Path(folder))]
    return [experiment for experiment in TABLES if any(run.startswith(f"{experiment}/") for run in runs)]


def found_runs(folder: Path) -> list[str]:
    """`experiment/run` of every result in a study's folder: rules first, then the untuned model, the others by name."""

    def place(run: str) -> tuple[bool, bool, str]:
        return not run.startswith("baseline_"), run != "base", run

    return [
        f"{experiment}/{run}"
        for experiment in TABLES
        for run in sorted((path.parent.name for path in (folder / experiment).glob("*/metrics.json")), key=place)
    ]


def _check(path: Path, where: str) -> None:
    try:
        record: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FrugalError(f"{where}: {path}: cannot be read ({first_line(error)}); copy it again") from None
    lacking = [part for part in PARTS if not isinstance(record, dict) or not isinstance(record.get(part), dict)]
    if lacking:
        raise FrugalError(
            f"{where}: {path}: has no {' and no '.join(lacking)}, so another version or another program wrote it; make "
            "it again with this version, or take the entry out"
        )
