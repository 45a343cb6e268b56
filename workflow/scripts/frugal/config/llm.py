"""Settings of all experiments with language models: the model, the adapter, the training.

Keys have the names of transformers, peft and trl.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from frugal.config.backends import check_backend
from frugal.config.base import Settings
from frugal.config.training import Count, LearningRate, TrainerSettings

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
#: PEFT's word for all linear layers but the output layer.
ALL_LINEAR = "all-linear"
MODULE_NAME = r"^\w+(\.\w+)*$"


def _module_names(value: Any) -> Any:
    """One sentence for every fault, where a union would report one for each of its types."""
    names = value if isinstance(value, list) else []
    if value != ALL_LINEAR and not (names and all(isinstance(n, str) and re.match(MODULE_NAME, n) for n in names)):
        raise ValueError(f"must be a list of names of layers, such as q_proj, or '{ALL_LINEAR}', got {value!r}")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"names {', '.join(repeated)} twice")
    return value


ModuleNames = Annotated[
    Annotated[list[Annotated[str, Field(pattern=MODULE_NAME)]], Field(min_length=1)] | Literal[ALL_LINEAR],
    BeforeValidator(_module_names),
]


class ModelSettings(Settings):
    """How the base model is loaded."""

    quantization: Literal["none", "nf4", "int8"] = Field(
        "nf4",
        description="Of the frozen weights. 'nf4': 4 bits. 'int8': 8 bits, CPU only; on CPUs with AVX-512 VNNI with "
        "integer matmuls, the fastest there; elsewhere it only saves memory. 'none': compute_dtype.",
    )
    double_quantization: bool = Field(
        True, description="Quantise the quantisation constants too: saves about 0.4 bits per weight."
    )
    compute_dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto",
        description="The dtype of matmuls and of frozen weights that are not quantised. 'auto' follows the device: "
        "bfloat16 if its hardware has bfloat16 matmuls, else float32 on a CPU and float16 on a GPU.",
    )
    attn_implementation: Literal["sdpa", "eager"] = Field(
        "sdpa",
        description="Attention of evaluation and generation: 'eager' is faster for short sequences on a CPU; its "
        "memory grows with length squared. Training has its own attention, without padding.",
    )
    max_length: int = Field(
        512,
        ge=16,
        le=131072,
        description="Longest sequence, in tokens, within the model's positions. A preference pair that is longer loses "
        "the oldest items of its history.",
    )


class LoraSettings(Settings):
    """The low-rank adapter (peft.LoraConfig)."""

    r: int = Field(16, ge=1, le=1024, description="Rank of the update.")
    lora_alpha: float = Field(16, gt=0, description="The update is scaled by lora_alpha / r.")
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: ModuleNames = Field(
        list(PROJECTIONS),
        description="The linear layers that get an adapter, by the names that they have in the base model: q_proj in "
        "Llama, qkv_proj in Phi 3, c_attn in GPT-2; or 'all-linear': all but the output layer.",
    )
    use_rslora: bool = Field(False, description="Scale by lora_alpha / sqrt(r) instead.")
    use_dora: bool = Field(False, description="Learn the weights' magnitudes apart from their directions.")

    @property
    def target_names(self) -> list[str]:
        """`target_modules` as a list: ["all-linear"] where it is this word."""
        return [self.target_modules] if isinstance(self.target_modules, str) else self.target_modules


class TrainingSettings(TrainerSettings):
    """The training run."""

    gradient_accumulation_steps: Count = 8
    learning_rate: LearningRate = 2e-4
    warmup_steps: int = Field(5, ge=0)
    optim: Literal["adamw_torch", "adamw_8bit", "paged_adamw_8bit"] = Field(
        "adamw_8bit",
        description="The 8-bit optimisers come from bitsandbytes; 'paged' ones spill to host memory.",
    )
    loss_chunk_tokens: int | None = Field(
        1024,
        ge=1,
        description="Number of tokens whose logits are in memory at once. Fewer: less memory, slower. null: all "
        "tokens, which takes more memory and time.",
    )
    train_sampling_strategy: Literal["random", "group_by_length"] = Field(
        "random", description="'group_by_length' batches rows of similar length: more even steps, less random order."
    )
    gradient_checkpointing: Literal[False, True, "selective"] = Field(
        False,
        description="true recomputes all activations in the backward pass: least memory, a quarter to a third slower. "
        "'selective' keeps the outputs of the MLP's matmuls: a little more memory, and a tenth to a fifth slower than "
        "false.",
    )
    keep_freed_memory: bool = Field(
        True,
        description="On the CPU: keep memory that a step frees for the next one. false: less memory, a third slower.",
    )
    eval_steps: int | None = Field(
        None, ge=1, description="Optimiser steps between validations; null: one at the end of each epoch."
    )
    save_steps: int = Field(100, ge=1, description="Optimiser steps between checkpoints.")


class AdapterRun(Settings):
    """Settings of every run of a language model: data, model, adapter, training."""

    dataset: str = Field(description="A data set of config/datasets.yaml that the experiment can read.")
    base_model: str = Field(description="A model of config/models.yaml.")
    backend: Literal["transformers", "unsloth"] = Field(
        "transformers", description="'unsloth' is faster and needs a GPU; 'transformers' runs anywhere."
    )
    seed: int = Field(1, ge=0, lt=2**31)
    model: ModelSettings = ModelSettings()
    lora: LoraSettings = LoraSettings()
    training: TrainingSettings = TrainingSettings()

    @model_validator(mode="after")
    def _backend_and_device_fit(self) -> Self:
        check_backend(self)
        if self.model.quantization == "int8" and self.training.gpus not in (0, "auto"):
            raise ValueError("quantization 'int8' runs on a CPU: set it to 'nf4' or 'none', or training.gpus to 0")
        if self.model.quantization == "int8" and self.lora.use_dora:
            raise ValueError("quantization 'int8' has no DoRA: set lora.use_dora to false, or quantization to 'none'")
        if self.model.compute_dtype == "float16" and self.training.gpus in (0, "auto"):
            raise ValueError(
                "compute_dtype 'float16' needs a GPU: set it to 'bfloat16' or 'float32', or training.gpus to 1"
            )
        return self
