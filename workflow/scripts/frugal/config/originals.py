"""The original projects: what config/originals.yaml states of each, for experiments that reproduce one."""

import os
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field

from frugal.config.base import Settings
from frugal.config.errors import validate
from frugal.config.yaml_files import read_yaml

PROJECT = Path(__file__).resolve().parents[4]
ORIGINALS_FILE = Path("config/originals.yaml")


def project_file(file: Path | str) -> Path:
    """The path of one of the project's own files from the working directory, which may be another folder."""
    return Path(os.path.relpath(PROJECT / file))


class Original(Settings):
    """One original project."""

    kind: Literal["preference", "recommendation", "language_modeling"]
    title: str = Field(description="The heading of an experiment that reproduces it.")
    source: str = Field(description="The title of its write-up.")
    hardware: str = Field(description="What it was trained on.")
    datasets: list[str] = Field(description="Its data sets, as config/datasets.yaml names them, where they are there.")
    base_model: str | None = Field(None, description="Its base model, as config/models.yaml names it.")


@cache
def load_originals() -> dict[str, Original]:
    """Name -> original.

    Raises:
        FrugalError: the file cannot be read, or is faulty.
    """
    entries, file = read_yaml(PROJECT / ORIGINALS_FILE), str(ORIGINALS_FILE)
    return {name: validate(Original, entry, file=file, prefix=(name,)) for name, entry in entries.items()}
