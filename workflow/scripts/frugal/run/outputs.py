"""A run's files: its resolved configuration, and the metrics that it leaves behind."""

from pathlib import Path
from typing import Any

from frugal.config.base import Settings
from frugal.config.errors import validate
from frugal.config.yaml_files import read_yaml
from frugal.errors import FrugalError
from frugal.files import sha256_file, write_json
from frugal.kinds import KINDS, Kind
from frugal.run.gpus import resolve_gpus

#: In a run's folder of checkpoints: how far its training is.
PROGRESS_FILE = "progress.json"


def run_name(folder: Path) -> str:
    """A run as logs call it, `experiment/variant`, from its folder results/<study>/<experiment>/<variant>."""
    return "/".join(folder.absolute().parts[-2:])


def load_run(path: Path | str, *kinds: Kind) -> Settings:
    """The resolved settings in a run's config.yaml, or in the settings of one of its stages, as they stand here:
    `gpus: auto` is the number of GPUs that this process may take.

    Args:
        kinds: of which the run has to be; none: of any.

    Raises:
        FrugalError: the file is missing, or is not a resolved configuration of one of ``kinds``.
    """
    data = read_yaml(path)
    kind = KINDS.get(data.get("kind")) if isinstance(data, dict) else None
    if kind is None or (kinds and kind not in kinds):
        wanted = " or ".join(f"'{one.name}'" for one in kinds or KINDS.values())
        raise FrugalError(f"{path}: kind: not the settings of a run of the kind {wanted}")
    return resolve_gpus(validate(kind.run, data, file=str(path)))


def write_metrics(
    path: Path | str,
    metrics: dict[str, float],
    intervals: dict[str, list[float]],
    training: dict[str, Any] | None,
    provenance: dict[str, Any],
    left_out: str | None = None,
) -> None:
    """Write a run's metrics.json.

    Args:
        metrics: name -> value, under the field's names.
        intervals: name -> [lower, upper], 95 %, for those metrics that have one.
        training: the training record; None for a run that trained nothing.
        provenance: hardware, versions, commit, seed and input hashes.
        left_out: why the run could not be scored, where it has no metrics.
    """
    record = {"metrics": metrics, "intervals": intervals, "training": training, "provenance": provenance}
    write_json(path, record | ({"left_out": left_out} if left_out else {}))


def hash_inputs(**paths: Path | str) -> dict[str, str]:
    """name -> SHA-256 of the file at each path."""
    return {name: sha256_file(path) for name, path in paths.items()}
