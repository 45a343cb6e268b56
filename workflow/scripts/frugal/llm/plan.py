"""What a run of a study will need of a GPU, before its model is there."""

from pathlib import Path
from typing import Any

from frugal.config.registry import ModelEntry, RandomSource
from frugal.errors import FrugalError
from frugal.llm.memory import MemoryEstimate, estimate
from frugal.llm.shapes import SHAPES

#: Share of a GPU's memory that a plan may fill: allocators leave gaps.
USABLE = 0.95
#: Letters of the byte-level tokenizer that a random model gets: 256 bytes, an end and a pad token.
BYTE_VOCABULARY = 258


def model_shape(name: str, entry: ModelEntry, models: Path) -> Any:
    """The model's configuration: of the prepared folder, of the published shape, or None.

    Raises:
        FrugalError: the prepared folder's configuration cannot be read.
    """
    from transformers import AutoConfig, LlamaConfig

    if (models / name / "config.json").exists():
        try:
            return AutoConfig.from_pretrained(models / name, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise FrugalError(f"{models / name}/config.json: not a model's configuration: {error}") from None
    if name in SHAPES:
        return LlamaConfig(**SHAPES[name])
    for source in entry.sources:
        if isinstance(source, RandomSource):
            shape = source.random.model_dump(exclude={"seed"})
            return LlamaConfig(**shape, vocab_size=BYTE_VOCABULARY, tie_word_embeddings=True)
    return None


def sequence_length(run: Any) -> int:
    """Tokens of a row: a corpus is packed into blocks; a preference pair is cut at the model's limit."""
    return run.corpus.block_length if hasattr(run, "corpus") else run.model.max_length


def needed(run: Any, entry: ModelEntry, models: Path) -> MemoryEstimate | None:
    """The peak memory of a run's training, on its device; None where the model's shape is not known yet."""
    config = model_shape(run.base_model, entry, models)
    if config is None:
        return None
    return estimate(
        config,
        run,
        batch_size=run.training.per_device_train_batch_size,
        sequence_length=sequence_length(run),
        device="cuda" if run.training.gpus else "cpu",
    )
