"""The common base of every configuration model, and the keys that experiments of all kinds have."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """Settings that know all their keys: an unknown one is an error, not a silent default."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, protected_namespaces=(), allow_inf_nan=False
    )


def later(default: Any, **options: Any) -> Any:
    """A field that was added when there were results already.

    It is written only where it differs from its default: settings without it keep their hash, and their results.
    """
    return Field(default, exclude_if=lambda value: value == default, **options)


class ExperimentSettings(Settings):
    """What an experiment has beside the settings of its runs."""

    title: str = Field(min_length=1, max_length=80, description="Its heading in the report.")
    reproduces: str | None = Field(
        None,
        description="The original project that it reproduces, a key of config/claims.yaml: the report then holds its "
        "claims, and what differs.",
    )
    script: str | None = Field(
        None, description="Its training script, from the project's folder; null: the script of its kind."
    )
    environment: str | None = Field(
        None, description="The conda environment of its training, from the project's folder; null: that of its kind."
    )
    variants: dict[str, dict[str, Any]] = Field(
        {"tuned": {}}, min_length=1, description="Name of a run: the keys in which it differs from the above."
    )


def plain(settings: Settings, keys: Iterable[str] | None = None) -> dict[str, Any]:
    """Resolved settings as plain values; of ``keys`` and the kind only where keys are given.

    A key may be one of a section, `section.key`; at most one of each section.
    """
    if keys is None:
        return settings.model_dump(mode="json")
    parts = (key.partition(".") for key in ("kind", *keys))
    return settings.model_dump(mode="json", include={first: {one} if one else True for first, _, one in parts})
