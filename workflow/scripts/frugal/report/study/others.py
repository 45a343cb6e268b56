"""Other studies' results, such as those of another machine, that a report sets beside its own.

Snakemake looks into their folders when it starts; this module therefore imports little.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frugal.config.yaml_files import read_yaml
from frugal.errors import FrugalError, first_line

#: What every metrics.json has.
PARTS = ("metrics", "provenance")


def check_others(compare: Mapping[str, Path | str], own: Path | str, described: dict[str, Any]) -> list[str]:
    """The files that a comparison reads, of all folders in their order.

    Args:
        compare: name -> folder of a study's results, as `report.compare` states it.
        own: the folder of the study whose report it is.
        described: its experiments, as `frugal.report.contents.describe` gives them.

    Raises:
        FrugalError: a folder is not there, is ``own``, or holds no results of these experiments or others than this
            version writes.
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
        experiments = described["experiments"]
        runs = {path / one / run: entry["kind"] for one, entry in experiments.items() for run in found_runs(path, one)}
        if not runs:
            raise FrugalError(
                f"{where}: holds no results of this study's experiments, that is no <experiment>/<run>/metrics.json "
                f"of {', '.join(experiments)}; copy all of a study's folder below results/, or take the entry out"
            )
        for run, kind in runs.items():
            _check(run, kind, where)
            files += [str(file) for file in (run / "metrics.json", run / "config.yaml") if file.exists()]
    return files


def compared_experiments(compare: Mapping[str, Path | str], described: dict[str, Any]) -> list[str]:
    """The experiments that any of the folders has results of."""
    return [one for one in described["experiments"] if any(found_runs(folder, one) for folder in compare.values())]


def found_runs(folder: Path | str, experiment: str) -> list[str]:
    """Every run with results in a study's folder: baselines first, then the untuned model, the others by name."""

    def place(run: str) -> tuple[bool, bool, str]:
        return not run.startswith("baseline_"), run != "base", run

    return sorted((path.parent.name for path in (Path(folder) / experiment).glob("*/metrics.json")), key=place)


def _check(run: Path, kind: str, where: str) -> None:
    path = run / "metrics.json"
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
    settings = run / "config.yaml"
    other = read_yaml(settings).get("kind", kind) if settings.exists() else kind
    if other != kind:
        raise FrugalError(
            f"{where}: {settings}: is of the kind '{other}', and this study's experiment of that name of '{kind}'; "
            "give one of them another name, or take the entry out"
        )
