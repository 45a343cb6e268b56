"""Settings that every language-model experiment shares: the model, the adapter, the training.

Keys carry the names that transformers, peft and trl use for the same thing.
"""

from importlib.util import find_spec
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from frugal.config.base import Settings

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def check_trackers(trackers: list[str]) -> list[str]:
    """Every named tracker is installed."""
    for tracker in trackers:
        if find_spec(tracker) is None:
            raise ValueError(
                f"{tracker} is not installed; install it (pip install -r envs/trackers.txt -c envs/requirements.txt) "
                "or leave it out"
            )
    return trackers


class ModelSettings(Settings):
    """How the base model is loaded."""

    quantization: Literal["none", "nf4", "int8"] = Field(
        "nf4",
        description="'nf4' keeps the frozen weights in 4 bits; 'int8' in 8, and multiplies integers: the fastest on a "
        "CPU, where alone it runs; 'none' keeps them in compute_dtype.",
    )
    double_quantization: bool = Field(
        True, description="Quantise the quantisation constants too: about 0.4 bits per weight less."
    )
    compute_dtype: Literal["bfloat16", "float16", "float32"] = Field(
        "bfloat16", description="The type of matrix products and, unquantised, of the frozen weights."
    )
    attn_implementation: Literal["sdpa", "eager"] = Field(
        "sdpa",
        description="Attention of evaluation and generation: 'eager' is faster for short sequences on a CPU; its "
        "memory grows with length squared. Training has an attention of its own, without padding.",
    )
    max_length: int = Field(512, ge=16, le=131072, description="Longest sequence, in tokens.")


class LoraSettings(Settings):
    """The low-rank adapter (peft.LoraConfig)."""

    r: int = Field(16, ge=1, le=1024, description="Rank of the update.")
    lora_alpha: float = Field(16, gt=0, description="The update is scaled by lora_alpha / r.")
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: list[Literal[PROJECTIONS]] = Field(
        list(PROJECTIONS), min_length=1, description="The projections that get an adapter."
    )
    use_rslora: bool = Field(False, description="Scale by lora_alpha / sqrt(r) instead.")
    use_dora: bool = Field(False, description="Learn the weights' magnitudes apart from their directions.")

    @model_validator(mode="after")
    def _modules_once(self):
        repeated = {m for m in self.target_modules if self.target_modules.count(m) > 1}
        if repeated:
            raise ValueError(f"target_modules names {', '.join(sorted(repeated))} twice")
        return self


class TrainingSettings(Settings):
    """The training run (transformers.TrainingArguments)."""

    num_train_epochs: float = Field(1, gt=0)
    max_steps: int = Field(-1, ge=-1, description="Optimiser steps; -1 leaves it to num_train_epochs.")
    per_device_train_batch_size: int = Field(1, ge=1, description="Rows of each process in one forward pass.")
    gradient_accumulation_steps: int = Field(8, ge=1)
    learning_rate: float = Field(2e-4, gt=0, lt=1)
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "linear"
    warmup_steps: int = Field(5, ge=0)
    weight_decay: float = Field(0.0, ge=0, lt=1)
    adam_beta2: float = Field(0.999, gt=0, lt=1, description="Lower forgets the large first gradients sooner.")
    max_grad_norm: float = Field(1.0, gt=0)
    optim: Literal["adamw_torch", "adamw_8bit", "paged_adamw_8bit"] = Field(
        "adamw_8bit",
        description="The 8-bit optimisers come from bitsandbytes; 'paged' ones spill to host memory.",
    )
    loss_chunk_tokens: int | None = Field(
        1024,
        ge=1,
        description="Logits of so many tokens are in memory at once; fewer: less memory, slower; null: of all, which "
        "takes more memory and time.",
    )
    train_sampling_strategy: Literal["random", "group_by_length"] = Field(
        "random", description="'group_by_length' puts rows of like length together: even steps, less random order."
    )
    gradient_checkpointing: Literal[False, True, "selective"] = Field(
        False,
        description="true computes all activations again in the backward pass: least memory, a quarter to a third "
        "slower; 'selective' keeps the MLP's products: a little more memory, a tenth to a fifth slower than false.",
    )
    keep_freed_memory: bool = Field(
        True,
        description="On the CPU: what a step frees waits for the next one. false: less memory, a third slower.",
    )
    eval_steps: int | None = Field(
        None, ge=1, description="Validation loss every so many optimiser steps; null: at the end of each epoch."
    )
    save_steps: int = Field(100, ge=1, description="A checkpoint every so many optimiser steps.")
    logging_steps: int = Field(5, ge=1)
    deadline_minutes: float | None = Field(
        None,
        gt=0,
        description="Save and stop after so long; the same command continues. SLURM's limits are known without it.",
    )
    gpus: int = Field(
        0,
        ge=0,
        le=64,
        description="0 trains on the CPU; 2 or more start torchrun, and a step learns from so many times the rows.",
    )
    nodes: int = Field(
        1, ge=1, le=64, description="Machines that train together, each with `gpus` GPUs; 2 or more need SLURM."
    )
    report_to: list[Literal["mlflow", "tensorboard", "wandb"]] = Field(
        [], description="Experiment trackers; each must be installed."
    )

    _trackers = field_validator("report_to")(check_trackers)


class AdapterRun(Settings):
    """What every run of a language model has: data, model, adapter, training."""

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
    def _backend_fits(self) -> Self:
        if self.backend == "unsloth" and self.training.gpus == 0:
            raise ValueError("backend 'unsloth' needs a GPU: set training.gpus to 1, or backend to 'transformers'")
        if self.backend == "unsloth" and (self.training.gpus, self.training.nodes) != (1, 1):
            raise ValueError(
                "backend 'unsloth' trains on one GPU: set training.gpus and training.nodes to 1, or backend to "
                "'transformers'"
            )
        if self.backend == "unsloth" and self.lora.use_dora:
            raise ValueError("backend 'unsloth' has no DoRA: set lora.use_dora to false, or backend to 'transformers'")
        if self.backend == "unsloth" and not self.model.double_quantization:
            raise ValueError("backend 'unsloth' always quantises doubly: set model.double_quantization to true")
        if self.backend == "unsloth" and self.training.gradient_checkpointing == "selective":
            raise ValueError(
                "backend 'unsloth' recomputes in its own way: set training.gradient_checkpointing to true or false, or "
                "backend to 'transformers'"
            )
        if self.model.quantization == "int8" and self.training.gpus:
            raise ValueError("quantization 'int8' runs on a CPU: set it to 'nf4' or 'none', or training.gpus to 0")
        if self.model.quantization == "int8" and self.lora.use_dora:
            raise ValueError("quantization 'int8' has no DoRA: set lora.use_dora to false, or quantization to 'none'")
        if self.model.compute_dtype == "float16" and self.training.gpus == 0:
            raise ValueError(
                "compute_dtype 'float16' needs a GPU: set it to 'bfloat16' or 'float32', or training.gpus to 1"
            )
        return self
