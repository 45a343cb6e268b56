"""The memory of a study's training runs, estimated before their models are downloaded."""

from pathlib import Path
from typing import Any

from frugal.config.registry import ModelEntry
from frugal.llm.memory.estimate import MemoryEstimate, estimate
from frugal.llm.memory.shapes import model_shape
from frugal.run.device import with_compute_dtype

#: Share of a GPU's memory that a plan may use; allocators leave gaps.
USABLE = 0.95


def sequence_length(run: Any) -> int:
    """Tokens of a row: the block length of a corpus; the maximum length of preference pairs."""
    return run.corpus.block_length if hasattr(run, "corpus") else run.model.max_length


def on_cpu(run: Any) -> Any:
    """The run with compute_dtype 'auto' replaced by the largest dtype that it may become on a CPU, float32."""
    if run.model.compute_dtype != "auto":
        return run
    return with_compute_dtype(run, "float32")


def needed(run: Any, entry: ModelEntry, models: Path) -> MemoryEstimate | None:
    """The peak memory of a run's training, on its device; None if the model's shape is not known yet."""
    config = model_shape(run.base_model, entry, models)
    if config is None:
        return None
    return estimate(
        config,
        run if run.training.gpus else on_cpu(run),
        batch_size=run.training.per_device_train_batch_size,
        sequence_length=sequence_length(run),
        device="cuda" if run.training.gpus else "cpu",
    )
