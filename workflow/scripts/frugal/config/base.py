"""The common base of every configuration model."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Settings that know all their keys: an unknown one is an error, not a silent default."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, protected_namespaces=(), allow_inf_nan=False
    )
