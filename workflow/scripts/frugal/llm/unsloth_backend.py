"""The unsloth backend: the same run on a GPU, through unsloth's patched kernels.

Import unsloth before anything that imports trl, peft or transformers: it patches them. The arguments are built by
separate functions, so that a machine without a GPU can check that they bind to the signatures in unsloth's source.
"""

import os
from pathlib import Path
from typing import Any

from frugal.config.llm import AdapterRun, LoraSettings, ModelSettings


def import_unsloth(folder: Path) -> None:
    """Import unsloth; it writes the code that it generates to ``folder``, not to the working directory."""
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(folder.absolute()))
    import unsloth  # noqa: F401


def from_pretrained_arguments(folder: str, settings: ModelSettings) -> dict[str, Any]:
    """Keyword arguments for `FastLanguageModel.from_pretrained`."""
    import torch

    return {
        "model_name": folder,
        "max_seq_length": settings.max_length,
        "dtype": getattr(torch, settings.compute_dtype),
        "load_in_4bit": settings.quantization == "nf4",
        "trust_remote_code": False,
    }


def get_peft_model_arguments(
    lora: LoraSettings, settings: ModelSettings, gradient_checkpointing: bool, seed: int
) -> dict[str, Any]:
    """Keyword arguments for `FastLanguageModel.get_peft_model`, beside the model."""
    return {
        "r": lora.r,
        "lora_alpha": lora.lora_alpha,
        "lora_dropout": lora.lora_dropout,
        "target_modules": lora.target_modules,
        "bias": "none",
        "use_gradient_checkpointing": "unsloth" if gradient_checkpointing else False,
        "use_rslora": lora.use_rslora,
        "random_state": seed,
        "max_seq_length": settings.max_length,
    }


def load_for_training(folder: Path, run: AdapterRun):
    """The base model with a fresh adapter, and its tokenizer, as unsloth prepares them."""
    from unsloth import FastLanguageModel

    model, tokenizer = FastLanguageModel.from_pretrained(**from_pretrained_arguments(str(folder), run.model))
    checkpointing = bool(run.training.gradient_checkpointing)
    arguments = get_peft_model_arguments(run.lora, run.model, checkpointing, run.seed)
    return FastLanguageModel.get_peft_model(model, **arguments), tokenizer
