"""A run's files: its resolved configuration, and the metrics that it leaves behind."""

from pathlib import Path
from typing import Any

from frugal.config.base import Settings
from frugal.config.errors import validate
from frugal.config.study import RUN_MODELS
from frugal.config.yaml_files import read_yaml
from frugal.errors import FrugalError
from frugal.files import sha256_file, write_json

#: In a run's folder of checkpoints: how far its training is.
PROGRESS_FILE = "progress.json"


def load_run(path: Path | str, experiment: str) -> Settings:
    """The resolved settings in a run's config.yaml.

    Raises:
        FrugalError: the file is missing or is not a resolved configuration of ``experiment``.
    """
    if experiment not in RUN_MODELS:
        raise FrugalError(f"{experiment}: no experiment has this name; there are: {', '.join(RUN_MODELS)}")
    return validate(RUN_MODELS[experiment], read_yaml(path), file=str(path))


def write_metrics(
    path: Path | str,
    metrics: dict[str, float],
    intervals: dict[str, list[float]],
    training: dict[str, Any] | None,
    provenance: dict[str, Any],
) -> None:
    """Write a run's metrics.json.

    Args:
        metrics: name -> value, under the field's names.
        intervals: name -> [lower, upper], 95 %, for those metrics that have one.
        training: the training record; None for a run that trained nothing.
        provenance: hardware, versions, commit, seed and input hashes.
    """
    write_json(path, {"metrics": metrics, "intervals": intervals, "training": training, "provenance": provenance})


def hash_inputs(**paths: Path | str) -> dict[str, str]:
    """name -> SHA-256 of the file at each path."""
    return {name: sha256_file(path) for name, path in paths.items()}
