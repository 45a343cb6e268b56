"""Read a model folder, and refuse weights that config.json does not describe and tokenizers that lack a file."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from frugal.errors import FrugalError, blaming
from frugal.files import read_json

#: How many tensors an error names.
NAMED = 3
#: Packages that read a tokenizer.model without a tokenizer.json.
SENTENCEPIECE = ("sentencepiece", "protobuf")


def check_weights(folder: Path | str) -> None:
    """Check that the names and shapes of a folder's tensors are those of its configuration; nothing is kept in memory.

    transformers only warns of missing and unexpected tensors, and gives the missing ones random values.

    Raises:
        FrugalError: the folder holds no causal language model, or other tensors than its configuration describes.
    """
    # Tensors of another shape are refused below, by name; on "meta" their replacements take no memory.
    load_complete(folder, device_map={"": "meta"}, ignore_mismatched_sizes=True)


def load_complete(folder: Path | str, **options: Any):
    """The causal language model in ``folder``: each of its tensors comes from the files, and none is left over.

    Args:
        options: of `from_pretrained`.

    Raises:
        FrugalError: as `check_weights`, or output layer and embeddings differ though the configuration ties them.
    """
    with blaming(folder, "not a usable model"):
        model, found = AutoModelForCausalLM.from_pretrained(
            folder, output_loading_info=True, local_files_only=True, trust_remote_code=False, **options
        )
    faults = {
        "lack": sorted(found["missing_keys"]),
        "have, but the model has not,": sorted(found["unexpected_keys"]),
        "have another shape:": [
            f"{name} {tuple(stored)}, not {tuple(wanted)}" for name, stored, wanted in sorted(found["mismatched_keys"])
        ],
    }
    sentences = [f"{fault} {_some(names)}" for fault, names in faults.items() if names]
    if sentences:
        raise FrugalError(
            f"{folder}: the weights are not those of a {type(model).__name__} with this configuration: they "
            f"{'; they '.join(sentences)}.{_likely_cause(found)} Fetch the model again, or correct its config.json"
        )
    if _unties_embeddings(model):
        if model.device.type == "meta":  # both are stored: only their values tell
            load_complete(folder, device_map={"": "cpu"})
        else:
            raise FrugalError(
                f"{folder}: config.json has tie_word_embeddings: true, but the output layer and the embeddings have "
                "different weights; set it to false there"
            )
    return model


def _unties_embeddings(model) -> bool:
    """Whether the configuration ties output layer and embeddings, but the files have two that differ, or may."""
    head, tied = model.get_output_embeddings(), getattr(model.config, "tie_word_embeddings", False)
    return bool(tied and head is not None and head.weight is not model.get_input_embeddings().weight)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _likely_cause(found: dict[str, Any]) -> str:
    missing, unexpected = found["missing_keys"], found["unexpected_keys"]
    if missing == {"lm_head.weight"}:
        return " The output layer may be the embeddings: then config.json needs tie_word_embeddings: true."
    if any(there.endswith(wanted) for wanted in missing for there in unexpected):
        return " The names have a prefix, as torch.compile adds it, or a model that contains this one."
    return ""


def read_tokenizer(folder: Path | str, advice: str = "", **options: Any):
    """The tokenizer of a model folder.

    Args:
        advice: what to do if it cannot be read; ends the error.
        options: of `from_pretrained`.

    Raises:
        FrugalError: the folder holds no tokenizer that can be read here; names the file or package that is missing.
    """
    files = {path.name for path in Path(folder).iterdir()} if Path(folder).is_dir() else set()
    if "gguf_file" not in options and "tokenizer.json" not in files:
        if "vocab.json" in files and "merges.txt" not in files:  # without merges each letter would be a token
            raise FrugalError(f"{folder}: no usable tokenizer: vocab.json without merges.txt{advice}")
        lacking = [package for package in SENTENCEPIECE if not _installed(package)]
        models = sorted(name for name in files if name.endswith(".model") and _is_sentencepiece(Path(folder) / name))
        if lacking and models:
            raise FrugalError(
                f"{folder}: no usable tokenizer: {models[0]} needs packages that are not installed here: "
                f"{', '.join(lacking)}; install them, or put a tokenizer.json beside it"
            )
    with blaming(folder, "no usable tokenizer", advice):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options)
        begins = tokenizer.bos_token is not None and _first_token(Path(folder)) == tokenizer.bos_token
        if begins and tokenizer("a")["input_ids"][:1] != [tokenizer.bos_token_id]:
            raise ValueError(
                f"tokenizer.json puts {tokenizer.bos_token} before each text, which is lost as it is loaded, and the "
                "model would read texts that begin otherwise than those that it was trained on"
            )
    return tokenizer


def _first_token(folder: Path) -> str | None:
    """The special token that tokenizer.json puts before a text, as Llama 3's does; None without one.

    None too where tokenizer_config.json has `add_bos_token: false`.
    """
    file, settings = folder / "tokenizer.json", folder / "tokenizer_config.json"
    if not file.exists() or (settings.exists() and read_json(settings).get("add_bos_token") is False):
        return None
    processor = read_json(file).get("post_processor") or {}
    for one in processor.get("processors") or [processor]:
        for piece in (one.get("single") or [])[:1]:
            return (piece.get("SpecialToken") or {}).get("id")
    return None


def _is_sentencepiece(file: Path) -> bool:
    """A protocol buffer, whose first field has the tag 0x0A; tiktoken's files of the same name are text."""
    with file.open("rb") as stream:
        return stream.read(1) == b"\n"


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False
