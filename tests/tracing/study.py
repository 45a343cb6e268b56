"""A study's files as they lie on disk."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

BASELINE = "baseline_"
NUMBER = re.compile(r"(?<![\w.])[0-9][0-9,]*(?:\.[0-9]+)?(?:e-?[0-9]+)?")


class Study:
    """The result files of one study, read without the library.

    Args:
        root: results/<study>.
        data: the folder that holds prepared/ and blocks/.
        described: what another study's description says, beside which this one stands.
        file: the study's own description.
    """

    def __init__(self, root: Path, data: Path, described: dict[str, Any] | None = None, file: str = "study.yaml"):
        self.root, self.data, self.name = root, data, root.name
        self.described = described or yaml.safe_load((root / file).read_text(encoding="utf-8"))
        compare = {} if described else self.described["report"]["compare"]
        self.others = {name: Study(Path(folder), data, self.described) for name, folder in compare.items()}

    @property
    def titles(self) -> dict[str, str]:
        """Title -> experiment."""
        return {entry["title"]: name for name, entry in self.described["experiments"].items()}

    def kind(self, experiment: str) -> str:
        return self.described["experiments"][experiment]["kind"]

    def reproducing(self, original: str) -> str | None:
        """The first experiment that reproduces an original."""
        entries = self.described["experiments"].items()
        return next((name for name, entry in entries if entry["reproduces"] == original), None)

    @cache  # noqa: B019 (a study lives as long as its test)
    def json(self, path: str) -> Any:
        file = self.root / path
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    def record(self, experiment: str, run: str) -> dict[str, Any]:
        return self.json(f"{experiment}/{run}/metrics.json")

    def training(self, experiment: str, run: str) -> dict[str, Any]:
        return self.record(experiment, run).get("training") or {}

    @cache  # noqa: B019
    def config(self, experiment: str, run: str) -> dict[str, Any]:
        file = self.root / experiment / run / "config.yaml"
        return yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else {}

    @cache  # noqa: B019
    def lines(self, path: str) -> list[dict[str, Any]]:
        text = (self.root / path).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.split("\n") if line]

    @cache  # noqa: B019
    def frame(self, path: str) -> pd.DataFrame:
        file = self.root / path
        return pd.read_csv(file) if file.suffix == ".csv" else pd.read_parquet(file)

    @cache  # noqa: B019
    def prepared(self, dataset: str, file: str = "summary.json") -> Any:
        path = self.data / "prepared" / dataset / file
        return json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else pd.read_parquet(path)

    def blocks(self, experiment: str, run: str) -> dict[str, Any]:
        path = self.data / "blocks" / self.name / experiment / run / "blocks.json"
        return json.loads(path.read_text(encoding="utf-8"))

    def trained(self, experiment: str) -> list[str]:
        """The variants of an experiment: folders with settings, but the untuned model's."""
        folders = sorted(path.parent.name for path in (self.root / experiment).glob("*/config.yaml"))
        return [name for name in folders if name != "base"]

    def principal(self, experiment: str) -> str:
        """The run that the others are compared with."""
        return self.described["experiments"][experiment]["principal"]

    def seeds(self, experiment: str, run: str) -> list[str]:
        return list(self.training(experiment, run).get("by_seed") or {})


def mentions(text: Any, *sources: Any) -> bool:
    """Whether every number in a text stands in one of the sources, as it is or as a percentage."""
    known = {number for source in sources for number in _numbers(source)}
    known |= {100 * number for number in known}
    told = [float(number.replace(",", "")) for number in NUMBER.findall(str(text))]
    return all(any(abs(number - other) <= 1e-9 * abs(other) + 1e-12 for other in known) for number in told)


def _numbers(source: Any) -> list[float]:
    if isinstance(source, dict):
        return [number for pair in source.items() for part in pair for number in _numbers(part)]
    if isinstance(source, list | tuple):
        return [number for part in source for number in _numbers(part)]
    if isinstance(source, bool) or source is None:
        return []
    if isinstance(source, int | float):
        return [float(source)]
    return [float(number.replace(",", "")) for number in NUMBER.findall(str(source))]
