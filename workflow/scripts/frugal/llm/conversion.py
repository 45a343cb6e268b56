"""Base models in one form, whatever they came as: GGUF, hub snapshot, local folder, or drawn at random."""

import shutil
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from frugal.config.registry import ModelEntry, RandomShape, RandomSource
from frugal.errors import FrugalError, first_line


def prepare_model(entry: ModelEntry, raw: Path | None, output: Path) -> None:
    """Write safetensors, configuration and tokenizer of ``entry`` into the folder ``output``.

    Args:
        raw: what was fetched; None for a model that is drawn at random.

    Raises:
        FrugalError: the fetched files are not a model that can be read without running their code.
    """
    if raw is None:
        (source,) = (source for source in entry.sources if isinstance(source, RandomSource))
        random_llama(source.random, output)
        return
    gguf = sorted(raw.glob("*.gguf"))
    try:
        if gguf:
            convert_gguf(gguf[0], output)
        else:
            copy_safetensors(raw, output)
    except (OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise FrugalError(f"{raw}: not a usable model: {first_line(error)}") from error


def convert_gguf(gguf: Path, output: Path) -> None:
    """Turn a GGUF file of a Llama model into bfloat16 safetensors.

    `save_pretrained` refuses a model that was loaded from GGUF, because it still counts as
    quantised; its weights go into a fresh model.
    """
    loaded = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, trust_remote_code=False
    )
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = LlamaForCausalLM(config)
    model.load_state_dict(loaded.state_dict())
    model.to(torch.bfloat16).save_pretrained(output)
    tokenizer.save_pretrained(output)


def copy_safetensors(raw: Path, output: Path) -> None:
    """Copy a snapshot's weights, configuration and tokenizer; pickled weights are not taken."""
    if not list(raw.glob("*.safetensors")) or not (raw / "config.json").exists():
        raise FrugalError(f"{raw}: no config.json with *.safetensors beside it; pickled weights are not read")
    output.mkdir()
    for file in sorted(raw.iterdir()):
        if file.suffix in (".safetensors", ".json", ".jinja", ".model") and file.name != "source.json":
            shutil.copy2(file, output / file.name)


def random_llama(shape: RandomShape, output: Path) -> None:
    """A small Llama with random weights and a byte-level tokenizer: for trying the workflow out."""
    settings = shape.model_dump()
    seed = settings.pop("seed")
    tokenizer = byte_tokenizer()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **settings,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(output)
    tokenizer.save_pretrained(output)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each of the 256 bytes, and an end and a pad token of their own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {symbol: index for index, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|pad|>")
