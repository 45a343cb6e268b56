"""Loading a base model, in 4, 8 or more bits, and an adapter on it."""

from contextlib import contextmanager
from pathlib import Path

import torch
from peft.helpers import disable_input_dtype_casting
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from frugal.config.llm import ModelSettings
from frugal.errors import FrugalError, blaming
from frugal.llm.int8 import to_int8


def load_tokenizer(folder: Path | str):
    """The tokenizer of a model folder, with a pad token.

    A tokenizer without one pads with its end token; labels mask padding by position, so that an
    end token that is part of the text is still learnt. Data that spells a special token, `<|im_end|>`
    say, is text like any other.

    Raises:
        FrugalError: the folder holds no tokenizer that can be read.
    """
    with blaming(folder, "no usable tokenizer", "; make the model again: snakemake --forcerun prepare_model"):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    tokenizer.split_special_tokens = True
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def quantization_config(settings: ModelSettings) -> BitsAndBytesConfig | None:
    """The bitsandbytes configuration for ``settings``, or None for weights that are not in 4 bits."""
    if settings.quantization != "nf4":
        return None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=settings.double_quantization,
        bnb_4bit_compute_dtype=getattr(torch, settings.compute_dtype),
    )


def load_base_model(folder: Path | str, settings: ModelSettings, device: str):
    """The frozen base model from a local folder of safetensors.

    Raises:
        FrugalError: the folder is incomplete or holds something else than a causal language model.
    """
    if not (Path(folder) / "config.json").exists():
        raise FrugalError(f"{folder}: no config.json; make the model again: snakemake --forcerun prepare_model")
    with blaming(folder, "not a usable model"):
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, settings.compute_dtype),
            attn_implementation=settings.attn_implementation,
            quantization_config=quantization_config(settings),
            device_map={"": device},
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    if settings.quantization == "int8":
        to_int8(model)
    if settings.quantization != "none" and device == "cpu":
        # What is not quantised is a view of the mapped file, which would stay in memory whole beside the rest.
        for tensor in filter(torch.is_floating_point, (*model.parameters(), *model.buffers())):
            tensor.data = tensor.data.clone()
    return model


def load_adapter(model, folder: Path | str):
    """``model`` with the finished adapter in ``folder``, ready for inference.

    Raises:
        FrugalError: the folder holds no adapter, or one of another model.
    """
    from peft import PeftModel

    for name in ("adapter_config.json", "adapter_model.safetensors"):  # PEFT would look on the Hub
        if not (Path(folder) / name).is_file():
            raise FrugalError(f"{folder}: no {name}; train the variant first")
    with blaming(folder, "holds no adapter that fits the model", "; train the variant again"):
        return PeftModel.from_pretrained(model, folder).eval()


@contextmanager
def mixed_precision(model, settings: ModelSettings, device: str):
    """Matrix products in compute_dtype, the adapter's float32 weights included.

    PEFT would first cast the adapter's input to float32, only for autocast to cast it back.
    """
    dtype = getattr(torch, settings.compute_dtype)
    with (
        torch.autocast(device.split(":")[0], dtype=dtype, enabled=dtype != torch.float32),
        disable_input_dtype_casting(model, active=dtype != torch.float32),
    ):
        yield
