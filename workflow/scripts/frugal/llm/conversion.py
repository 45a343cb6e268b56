"""Bring base models into one form, from GGUF, a Hub snapshot, a local folder, or random weights."""

import re
import shutil
from pathlib import Path

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from frugal.config.registry import ModelEntry
from frugal.config.sources import RandomShape, RandomSource
from frugal.errors import FrugalError, blaming, first_line
from frugal.llm.model_folder import check_weights, load_complete, read_tokenizer

#: Weights, configurations, and all that tokenizers are stored in: merges.txt, tokenizer.model, chat_template.jinja, ...
COPIED = (".safetensors", ".json", ".jinja", ".model", ".txt", ".tiktoken")
#: The end of the name of a part: its number and the number of parts.
GGUF_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


def prepare_model(entry: ModelEntry, raw: Path | None, output: Path) -> None:
    """Write safetensors, configuration and tokenizer of ``entry`` into the folder ``output``.

    Args:
        raw: the fetched folder; None for random weights.

    Raises:
        FrugalError: the fetched files are not a model that can be read without running their code.
    """
    if raw is None:
        (source,) = (source for source in entry.sources if isinstance(source, RandomSource))
        random_llama(source.random, output)
        return
    try:
        if gguf := the_gguf(raw):
            convert_gguf(gguf, output)
        else:
            copy_safetensors(raw, output)
            check_weights(output)
            read_tokenizer(output)
    except FrugalError as error:  # names the fetched folder, which is there to be looked at
        raise FrugalError(str(error).replace(str(output), str(raw))) from None
    except (OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise FrugalError(f"{raw}: not a usable model: {first_line(error)}") from error


def the_gguf(raw: Path) -> Path | None:
    """The GGUF file in a folder; None if there is none.

    Raises:
        FrugalError: there are several, or it is a part of a model.
    """
    files = sorted(raw.glob("*.gguf"))
    for file in files:
        if part := GGUF_PART.search(file.name):
            count = int(part[2])
            names = [f"{file.name[: part.start()]}-{n:05}-of-{count:05}.gguf" for n in range(1, count + 1)]
            if missing := [name for name in names if not (raw / name).exists()]:
                raise FrugalError(f"{raw}: a GGUF model in {count} parts, without {', '.join(missing)}; add it")
            raise FrugalError(
                f"{raw}: a GGUF model in {count} parts; make them one file, which alone is read: "
                f"llama-gguf-split --merge {names[0]} FILE.gguf"
            )
    if len(files) > 1:
        raise FrugalError(f"{raw}: several GGUF files: {', '.join(file.name for file in files)}; leave one of them")
    return files[0] if files else None


def convert_gguf(gguf: Path, output: Path) -> None:
    """Turn a GGUF file into bfloat16 safetensors.

    `save_pretrained` refuses a model loaded from GGUF, because it is marked as quantised; so its weights are copied
    into a new model.

    Raises:
        FrugalError: the file has what transformers leaves out.
    """
    from gguf import GGUFReader

    with blaming(gguf, "not a usable model"):
        scaled = [tensor.name for tensor in GGUFReader(gguf).tensors if tensor.name.startswith("rope_")]
    if scaled:
        raise FrugalError(
            f"{gguf}: it scales the frequencies of its rotary positions ({scaled[0]}, as in Llama 3.1 and 3.2), which "
            "transformers does not read from GGUF; take the model's safetensors"
        )
    loaded = load_complete(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    tokenizer = read_tokenizer(gguf.parent, gguf_file=gguf.name)
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = type(loaded)(config)
    model.load_state_dict(loaded.state_dict())
    model.to(torch.bfloat16).save_pretrained(output)
    tokenizer.save_pretrained(output)


def copy_safetensors(raw: Path, output: Path) -> None:
    """Copy a snapshot's weights, configuration and tokenizer, except pickled weights."""
    if not list(raw.glob("*.safetensors")) or not (raw / "config.json").exists():
        raise FrugalError(f"{raw}: no config.json with *.safetensors beside it; pickled weights are not read")
    output.mkdir()
    for file in sorted(raw.iterdir()):
        if file.suffix in COPIED and file.name != "source.json":
            shutil.copy2(file, output / file.name)


def random_llama(shape: RandomShape, output: Path) -> None:
    """A small Llama with random weights and a byte-level tokenizer, to try the workflow."""
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
    """One token for each of the 256 bytes, an end token and a pad token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {symbol: index for index, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|pad|>")
