"""Load a base model, its weights in 4, 8 or more bits, and an adapter on it."""

import warnings
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import torch
from peft.helpers import disable_input_dtype_casting
from transformers import AttentionInterface, AttentionMaskInterface, BitsAndBytesConfig
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from frugal.config.llm import ModelSettings
from frugal.errors import FrugalError, blaming
from frugal.llm.kernels.int8 import to_int8
from frugal.llm.model_folder import check_weights, load_complete, read_tokenizer
from frugal.run.device import takes_grouped_heads
from frugal.run.emulation import matmuls_in_float32


def repeated_heads(module, query, key, value, attention_mask, **kwargs):
    """transformers' 'sdpa' with one head of keys and values for each head of queries."""
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = (heads.repeat_interleave(repeats, dim=1) for heads in (key, value))
    ungrouped = SimpleNamespace(is_causal=getattr(module, "is_causal", True))
    return ALL_ATTENTION_FUNCTIONS["sdpa"](ungrouped, query, key, value, attention_mask, **kwargs)


AttentionInterface.register("sdpa_repeated_heads", repeated_heads)
AttentionMaskInterface.register("sdpa_repeated_heads", ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])


def without_adapter(model):
    """The model below an adapter's wrapper; one without an adapter as it is."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def load_tokenizer(folder: Path | str):
    """The tokenizer of a model folder, with a pad token.

    A tokenizer without one pads with its end token. Labels mask padding by position, so an end token in the text still
    contributes to the loss. A special token spelled out in the data, `<|im_end|>` for example, is ordinary text.

    Raises:
        FrugalError: the folder holds no tokenizer that can be read.
    """
    tokenizer = read_tokenizer(folder, "; make the model again: snakemake --forcerun prepare_model")
    tokenizer.split_special_tokens = True
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def quantization_config(settings: ModelSettings) -> BitsAndBytesConfig | None:
    """The bitsandbytes configuration for ``settings``; None for weights that are not in 4 bits."""
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
        FrugalError: the folder does not hold a causal language model, or not exactly its tensors.
    """
    if not (Path(folder) / "config.json").exists():
        raise FrugalError(f"{folder}: no config.json; make the model again: snakemake --forcerun prepare_model")
    check_weights(folder)  # first: missing tensors of a wrong size could take more memory than there is
    model = load_complete(
        folder,
        dtype=getattr(torch, settings.compute_dtype),
        attn_implementation=settings.attn_implementation,
        quantization_config=quantization_config(settings),
        device_map={"": device},
        use_safetensors=True,
    )
    if settings.attn_implementation == "sdpa" and not takes_grouped_heads(settings.compute_dtype, device):
        model.set_attn_implementation("sdpa_repeated_heads")
    if settings.quantization == "int8":
        to_int8(model)
    if settings.quantization != "none" and device == "cpu":
        # Tensors that are not quantised are views of the mapped file, and would keep all of it in memory.
        for tensor in filter(torch.is_floating_point, (*model.parameters(), *model.buffers())):
            tensor.data = tensor.data.clone()
    return model


def load_adapter(model, folder: Path | str):
    """``model`` with the finished adapter in ``folder``, ready for inference.

    Raises:
        FrugalError: the folder holds no adapter, or one of another model.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    for name in ("adapter_config.json", "adapter_model.safetensors"):  # PEFT would look on the Hub
        if not (Path(folder) / name).is_file():
            raise FrugalError(f"{folder}: no {name}; train the variant first")
    with blaming(folder, "holds no adapter that fits the model", "; train the variant again"):
        with safe_open(Path(folder) / "adapter_model.safetensors", "pt") as file:
            found = set(file.keys())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT only warns of a missing tensor, and leaves it as it was drawn
            adapted = PeftModel.from_pretrained(model, folder).eval()
        if wrong := sorted(found ^ set(get_peft_model_state_dict(adapted, save_embedding_layers=False))):
            raise ValueError(f"{len(wrong)} tensors are in one of the two alone, such as {wrong[0]}")
    return adapted


@contextmanager
def mixed_precision(model, settings: ModelSettings, device: str):
    """Within it, matmuls are in compute_dtype, including those of the adapter's float32 weights.

    PEFT would cast the adapter's input to float32, only for autocast to cast it back: this is switched off.
    """
    dtype = getattr(torch, settings.compute_dtype)
    with (
        matmuls_in_float32(device, settings.compute_dtype),
        torch.autocast(device.split(":")[0], dtype=dtype, enabled=dtype != torch.float32),
        disable_input_dtype_casting(model, active=dtype != torch.float32),
    ):
        yield
