"""The number of positions of a base model, beyond which a run must not read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frugal.config.llm import AdapterRun
from frugal.errors import FrugalError, blaming
from frugal.files import read_json


def positions(config: Mapping[str, Any]) -> int | None:
    """The number of tokens that a model can read, from its config.json; None if it has no limit.

    A factor of rotary positions that stretches them beyond the length of pre-training (YaRN, for example) counts.
    """
    config = config.get("text_config") or config
    limit = config.get("max_position_embeddings") or config.get("n_positions")
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    stretched = (scaling.get("original_max_position_embeddings") or limit or 0) * (scaling.get("factor") or 0)
    return max(limit, int(stretched)) if limit else None


def check_lengths(base_model: Path | str, lengths: Mapping[str, int]) -> None:
    """Check that a base model has the positions for the lengths of a run.

    Args:
        base_model: its folder.
        lengths: key of the configuration -> tokens.

    Raises:
        FrugalError: one is longer (the message names it and the model's limit), or config.json cannot be read.
    """
    with blaming(base_model, "not a usable model", "; make it again: snakemake --forcerun prepare_model"):
        limit = positions(read_json(Path(base_model) / "config.json"))
    for key, length in lengths.items():
        if limit and length > limit:
            raise FrugalError(
                f"{key} is {length}, but the model in {base_model} has {limit} positions (max_position_embeddings in "
                f"its config.json); set {key} to {limit} or less, or choose another base_model"
            )


def lengths(run: AdapterRun) -> dict[str, int]:
    """The lengths of a whole run, key -> tokens, as `check_lengths` reads them."""
    if hasattr(run, "corpus"):
        return {
            "corpus.block_length": run.corpus.block_length,
            "evaluation.context_length": run.evaluation.context_length,
        }
    return {"model.max_length": run.model.max_length}
