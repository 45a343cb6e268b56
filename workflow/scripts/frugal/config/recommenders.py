"""Settings of the recommender experiments, `ssept` and `bert4rec`: data, model, loss, training, evaluation.

Both have the same keys and go through the same code; they differ in what stands in the study.
"""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from frugal.config.base import Settings
from frugal.config.llm import check_trackers

MODULES = ("query_key_value", "attention_output", "up", "down")
Precision = Literal["float32", "bfloat16", "float16"]
Mode = Literal[
    "float32",
    "bfloat16",
    "bfloat16+compile",
    "bfloat16+lora",
    "bfloat16+ilora",
    "float16",
    "float16+compile",
    "float16+lora",
    "float16+ilora",
]


class DataSettings(Settings):
    """How interactions become histories, and histories training, validation and test."""

    split: Literal["leave_one_out", "global_time"] = Field(
        "leave_one_out",
        description="'leave_one_out' predicts each user's last item; 'global_time' what follows one moment in time.",
    )
    validation_share: float = Field(0.1, gt=0, lt=0.5, description="Share of the interactions (global_time only).")
    test_share: float = Field(0.1, gt=0, lt=0.5, description="Share of the interactions (global_time only).")
    min_rating: float | None = Field(None, description="Leave out lower ratings; null keeps all as implicit feedback.")
    max_users: int | None = Field(None, ge=10, description="Use only so many users: for quick trials.")
    shards: int = Field(4, ge=1, le=10000, description="NPZ files for each part.")
    fraction: float = Field(1.0, gt=0, le=1, description="Share of the shards that is used.")


class ModelSettings(Settings):
    """The model."""

    architecture: Literal["sasrec", "ssept", "bert4rec"] = Field(
        "sasrec", description="'sasrec' and 'ssept' read from left to right, 'bert4rec' fills in masks."
    )
    hidden_size: int = Field(64, ge=2, le=8192)
    num_hidden_layers: int = Field(2, ge=1, le=200)
    num_attention_heads: int = Field(2, ge=1, le=256)
    intermediate_size: int = Field(256, ge=1, le=65536)
    max_length: int = Field(50, ge=2, le=8192, description="Longest sequence, in items; BERT4Rec's includes the mask.")
    hidden_dropout_prob: float = Field(0.2, ge=0, le=0.95)
    positions: Literal["learned", "rotary"] = Field(
        "learned", description="'rotary' positions are relative and have no weights; they need fewer epochs."
    )
    score: Literal["dot", "cosine"] = Field(
        "dot", description="'cosine' normalises embeddings and states: fewer epochs, and rare items get a chance."
    )
    cosine_scale: float = Field(14.0, gt=0, description="The factor on cosines before the softmax.")
    user_embedding_size: int = Field(64, ge=1, le=8192, description="ssept only.")
    sse_user_probability: float = Field(
        0.9, ge=0, le=1, description="ssept only: a user's id is replaced, in training."
    )
    sse_item_probability: float = Field(
        0.1, ge=0, le=1, description="ssept only: an item's id is replaced, in training."
    )
    output_projection: bool = Field(
        True, description="bert4rec only: a dense layer before the scores, as published; without it, fewer epochs."
    )
    mask_probability: float = Field(0.3, gt=0, lt=1, description="bert4rec only: an item is hidden, in training.")

    @model_validator(mode="after")
    def _heads_divide(self):
        width = self.hidden_size + (self.user_embedding_size if self.architecture == "ssept" else 0)
        if width % self.num_attention_heads or (self.positions == "rotary" and width // self.num_attention_heads % 2):
            parts = "even parts" if self.positions == "rotary" else "equal parts"
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} does not cut the width {width} into {parts}"
            )
        return self


class LossSettings(Settings):
    """Cross-entropy over the catalogue."""

    name: Literal["cross_entropy", "sampled_softmax"] = Field(
        "cross_entropy",
        description="'cross_entropy' is exact, in chunks; 'sampled_softmax' is for catalogues of 10^5 items and more.",
    )
    negatives: int = Field(1024, ge=1, le=10**7, description="sampled_softmax only: items drawn for each batch.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Of the loss's matrix products, most of the work. 'auto' follows training.precision, and takes "
        "bfloat16 on processors that multiply it in hardware (AMX, AVX-512).",
    )


class TrainingSettings(Settings):
    """The training run (transformers.TrainingArguments)."""

    num_train_epochs: int = Field(20, ge=1)
    max_steps: int = Field(-1, ge=-1, description="Optimiser steps; -1 leaves it to num_train_epochs.")
    per_device_train_batch_size: int = Field(64, ge=1, description="Windows of up to max_length items.")
    gradient_accumulation_steps: int = Field(1, ge=1)
    learning_rate: float = Field(1e-3, gt=0, lt=1)
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "cosine"
    warmup_ratio: float = Field(0.1, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    weight_decay: float = Field(0.0, ge=0, lt=1)
    adam_beta2: float = Field(0.98, gt=0, lt=1)
    max_grad_norm: float = Field(5.0, gt=0)
    precision: Precision = Field("float32", description="Of matrix products; weights stay in float32.")
    torch_compile: bool = Field(
        False, description="All blocks but the last; slow to start; needs a C++ compiler on a CPU."
    )
    eval_epochs: int = Field(1, ge=1, description="Validation NDCG@10, and a checkpoint, after so many epochs.")
    early_stopping_patience: int = Field(
        5, ge=1, description="Stop after so many validations without a better NDCG@10; the best weights are kept."
    )
    logging_steps: int = Field(10, ge=1)
    deadline_minutes: float | None = Field(
        None,
        gt=0,
        description="Save and stop after so long; the same command continues. SLURM's limits are known without it.",
    )
    profile_steps: int = Field(0, ge=0, le=1000, description="Profile so many steps into profile/ (PyTorch profiler).")
    threads: int = Field(1, ge=1, le=1024, description="CPU threads; small models gain little from a second one.")
    gpus: int = Field(
        0,
        ge=0,
        le=64,
        description="0 trains on the CPU; 2 or more start torchrun, and a step learns from so many times the windows.",
    )
    nodes: int = Field(
        1, ge=1, le=64, description="Machines that train together, each with `gpus` GPUs; 2 or more need SLURM."
    )
    report_to: list[Literal["mlflow", "tensorboard", "wandb"]] = Field(
        [], description="Experiment trackers; each must be installed."
    )

    _trackers = field_validator("report_to")(check_trackers)

    @model_validator(mode="after")
    def _precision_fits(self):
        if self.precision == "float16" and self.gpus == 0:
            raise ValueError("precision 'float16' needs a GPU: set it to 'bfloat16' or 'float32', or gpus to 1")
        return self


class AdapterSettings(Settings):
    """Train a few weights on a trained backbone (see warm_start), or all of them."""

    method: Literal["none", "lora", "ilora"] = Field(
        "none", description="'ilora' weighs K small adapters by a gate that sees the sequence; it cannot be merged."
    )
    r: int = Field(8, ge=1, le=1024, description="Rank; with ilora of all experts together.")
    lora_alpha: float = Field(16, gt=0, description="The update is scaled by lora_alpha / r.")
    experts: int = Field(4, ge=1, le=64, description="ilora only: K, into which r is cut.")
    target_modules: list[Literal[MODULES]] = Field(list(MODULES), min_length=1)

    @model_validator(mode="after")
    def _experts_divide(self):
        if self.method == "ilora" and self.r % self.experts:
            raise ValueError(f"r {self.r} cannot be cut into {self.experts} experts of equal rank")
        return self


class WarmStartSettings(Settings):
    """Weights to begin with: of another variant (same seed), or of a file."""

    variant: str | None = None
    path: str | None = Field(None, description="A folder of safetensors, or a .pth file (weights only).")

    @model_validator(mode="after")
    def _one_source(self):
        if (self.variant is None) == (self.path is None):
            raise ValueError("give either 'variant' or 'path'")
        return self


class BaselineSettings(Settings):
    """Rules and shallow models in the same table."""

    item_knn_neighbours: int = Field(20, ge=1)
    item_knn_shrinkage: float = Field(0.0, ge=0)
    ease_regularisation: float = Field(500.0, gt=0)
    recency_decay: float = Field(0.8, gt=0, le=1, description="An item counts this much of the next newer one.")


class EvaluationSettings(Settings):
    """How test users are ranked."""

    cutoffs: list[int] = Field([5, 10, 20], min_length=1)
    batch_size: int = Field(256, ge=1)
    sampled_negatives: int | None = Field(
        100, ge=1, le=100_000, description="Also rank among so many random items: not comparable."
    )
    bootstrap_samples: int = Field(2000, ge=100, le=100000)

    @field_validator("cutoffs")
    @classmethod
    def _has_ten(cls, cutoffs):
        if 10 not in cutoffs or min(cutoffs) < 1 or max(cutoffs) > 10_000 or len(set(cutoffs)) < len(cutoffs):
            raise ValueError("must be different whole numbers above 0, 10 among them, 10000 at most")
        return sorted(cutoffs)


#: An efficiency is measured without a data set: its epoch is so many windows.
EPOCH_SAMPLES = 100_000


class EfficiencySettings(Settings):
    """Speed and memory of sizes and modes, each measured in a process of its own on made-up histories."""

    sizes: dict[str, dict[str, Any]] = Field(min_length=1, description="Name: changes of `model`.")
    modes: list[Mode] = Field(["float32", "bfloat16"], min_length=1)
    item_count: int = Field(ge=2)
    batch_size: int = Field(8, ge=1)
    steps: int = Field(5, ge=2, description="Measured steps, after one that is not.")
    timeout_minutes: float = Field(30, gt=0, le=100_000, description="For each measurement.")


class RecommenderRun(Settings):
    """One variant, resolved: everything that its runs, one for each seed, depend on."""

    dataset: str = Field(description="A data set of config/datasets.yaml.")
    seeds: list[int] = Field([1, 2, 3], min_length=1, description="Each variant is trained once for each.")
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    loss: LossSettings = LossSettings()
    training: TrainingSettings = TrainingSettings()
    adapter: AdapterSettings = AdapterSettings()
    warm_start: WarmStartSettings | None = None
    baselines: BaselineSettings = BaselineSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    @field_validator("seeds")
    @classmethod
    def _seeds_once(cls, seeds):
        if len(set(seeds)) < len(seeds) or min(seeds) < 0 or max(seeds) >= 2**31:
            raise ValueError("must be different whole numbers from 0 to 2147483647")
        return seeds

    @model_validator(mode="after")
    def _adapter_has_backbone(self):
        if self.adapter.method != "none" and not (self.warm_start and self.warm_start.variant):
            raise ValueError(f"adapter '{self.adapter.method}' needs a trained backbone: set warm_start.variant")
        return self


class SSEPT(RecommenderRun):
    """The experiment `ssept`: the settings that all its runs share, and what each variant changes."""

    variants: dict[str, dict[str, Any]] = Field(
        min_length=1, description="Name of a run: the keys in which it differs from the above."
    )


class BERT4Rec(SSEPT):
    """The experiment `bert4rec`: as `ssept`, and what sizes and modes cost."""

    efficiency: EfficiencySettings | None = Field(None, description="Measure sizes and modes; null leaves it out.")
