"""The note that fetching leaves beside a data set's files, read back and checked."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from frugal.config.base import Settings
from frugal.config.sources import Columns, ItemColumns
from frugal.data import RECORD
from frugal.errors import FrugalError
from frugal.files import read_json


class _Member(Settings):
    file: str
    size: int
    sha256: str

    @field_validator("file")
    @classmethod
    def _inside(cls, value: str) -> str:
        if PurePosixPath(value).is_absolute() or ".." in PurePosixPath(value).parts:
            raise ValueError("leads outside")
        return value


class _Record(Settings):
    name: str = ""
    source: dict[str, Any] = Field(default_factory=dict)
    file: dict[str, Any] | None = None
    format: str
    columns: Columns | None = None
    item_columns: ItemColumns | None = None
    separator: str | None = None
    quoting: bool = True
    attribute_separator: str = "|"
    encoding: str | None = None
    members: dict[str, _Member]

    @field_validator("attribute_separator", mode="before")
    @classmethod
    def _has_a_default(cls, value: Any) -> Any:
        return "|" if value is None else value

    @model_validator(mode="after")
    def _names_its_columns(self) -> "_Record":
        if self.format in ("csv", "parquet") and self.columns is None:
            raise ValueError("no columns")
        return self


def read_record(raw: Path, formats: Sequence[str], content: str) -> dict[str, Any]:
    """What ``fetch_source.py`` has noted of the folder ``raw``; its files are there.

    Args:
        formats: those that the caller reads.
        content: what these hold, for the message.

    Raises:
        FrugalError: the note or a file is missing, the note is damaged, or the data set has another format.
    """
    path = raw / RECORD
    try:
        record = _Record.model_validate(read_json(path)).model_dump(exclude_none=True)
    except FileNotFoundError:
        raise FrugalError(f"{path}: is missing; fetch the data set first") from None
    except (OSError, ValidationError, ValueError):
        raise FrugalError(f"{path}: is damaged; fetch the data set again") from None
    if record["format"] not in formats:
        raise FrugalError(
            f"{path}: the format '{record['format']}' holds no {content}; those that do: {', '.join(formats)}"
        )
    for member in record["members"].values():
        if not (raw / member["file"]).is_file():
            raise FrugalError(f"{raw / member['file']}: is missing; fetch the data set again")
    return record
