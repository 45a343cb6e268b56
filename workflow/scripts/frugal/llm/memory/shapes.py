"""Shapes of base models, to estimate memory before anything is downloaded, and without transformers.

`SHAPES` has those of public models, from their published config.json: only the keys that decide the number of weights
and of activations. Keys are names of config/models.yaml.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from frugal.config.registry import ModelEntry
from frugal.config.sources import PathSource, RandomSource
from frugal.errors import FrugalError
from frugal.files import read_json

#: Vocabulary of the byte-level tokenizer of a random model: 256 bytes, an end token and a pad token.
BYTE_VOCABULARY = 258
#: Keys that config.json must have; optional keys default to Llama's.
NEEDED = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")

SHAPES: dict[str, dict[str, Any]] = {
    # 134,515,008 weights
    "smollm2-135m-instruct": {
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
        "tie_word_embeddings": True,
    },
    # 1,235,814,400 weights
    "llama-3.2-1b": {
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "tie_word_embeddings": True,
    },
    # 3,212,749,824 weights
    "llama-3.2-3b": {
        "vocab_size": 128256,
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 28,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "tie_word_embeddings": True,
    },
    # 8,030,261,248 weights
    "llama-3-8b": {
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "tie_word_embeddings": False,
    },
}


def model_shape(name: str, entry: ModelEntry, models: Path) -> SimpleNamespace | None:
    """The model's shape, with the attributes of its `transformers` configuration that `SHAPES` names.

    Read from the prepared folder, `SHAPES`, the table's random model or a local folder, in this order; None if none of
    these has it, or if the model is not built like Llama.

    Args:
        models: the folder of prepared models.

    Raises:
        FrugalError: the prepared folder's config.json cannot be read.
    """
    prepared = models / name / "config.json"
    if prepared.exists():
        return _shape(_read(prepared))
    if name in SHAPES:
        return _shape(SHAPES[name])
    for source in entry.sources:
        if isinstance(source, RandomSource):
            shape = source.random.model_dump(exclude={"seed"})
            return _shape({**shape, "vocab_size": BYTE_VOCABULARY, "tie_word_embeddings": True})
        if isinstance(source, PathSource) and (Path(source.path) / "config.json").is_file():
            return _shape(_read(Path(source.path) / "config.json"))
    return None


def _read(file: Path) -> Any:
    try:
        return read_json(file)
    except (OSError, ValueError) as error:
        raise FrugalError(f"{file}: not a model's configuration: {error}") from None


def _shape(config: Any) -> SimpleNamespace | None:
    if not isinstance(config, Mapping) or not _whole_numbers(config.get(key) for key in NEEDED):
        return None
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    keys = config.get("num_key_value_heads") or heads
    head = config.get("head_dim") or hidden // heads
    if not _whole_numbers((keys, head)):
        return None
    return SimpleNamespace(
        **{key: config[key] for key in NEEDED},
        num_key_value_heads=keys,
        head_dim=head,
        tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
        model_type=config.get("model_type", "llama"),
    )


def _whole_numbers(values: Iterable[Any]) -> bool:
    return all(isinstance(value, int) and value > 0 for value in values)
