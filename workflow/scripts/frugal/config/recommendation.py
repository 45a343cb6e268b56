"""Settings of `recommendation` experiments: data, model, loss, training, adapter, baselines, evaluation."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from frugal.config.base import ExperimentSettings, Settings, later
from frugal.config.search import SearchSettings
from frugal.config.training import Beta, Count, Positive, Scheduler, TrainerSettings

MODULES = ("query_key_value", "attention_output", "up", "down")
#: What to do where a data set's files and `data.split` do not go together.
SPLIT_ADVICE = (
    "data.split 'files' belongs to a data set whose source has the members train and test, and maybe validation; other "
    "splits to one whose source has the member ratings"
)
BASELINES = ("popularity", "item_knn", "ease", "ease_recency", "markov")
Precision = Literal["auto", "float32", "bfloat16", "float16"]
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

    split: Literal["leave_one_out", "global_time", "files"] = Field(
        "leave_one_out",
        description="'leave_one_out' predicts each user's last item; 'global_time' what follows one moment in time; "
        "'files' what the data set's own file for the test holds (its members train, validation and test).",
    )
    validation_share: float = Field(0.1, gt=0, lt=0.5, description="Share of the interactions (global_time only).")
    test_share: float = Field(0.1, gt=0, lt=0.5, description="Share of the interactions (global_time only).")
    targets: Literal["all", "first", "last"] = Field(
        "all", description="Which of a user's items after a moment are to be predicted (global_time only)."
    )
    min_rating: float | None = Field(None, description="Leave out lower ratings; null keeps all as implicit feedback.")
    max_users: int | None = Field(None, ge=10, description="Use only this number of users, for quick trials.")
    times: bool = later(False, description="Keep the time of each interaction, which model.positions 'time' read.")
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
    layers: Literal["transformer", "ligr", "hstu"] = later(
        "transformer",
        description="'transformer': pre-norm attention and feed-forward network; 'ligr': gated attention and gated "
        "SwiGLU of intermediate_size (eSASRec); 'hstu': gated attention without softmax, no feed-forward network.",
    )
    positions: Literal["learned", "rotary", "relative", "time"] = Field(
        "learned",
        description="'rotary' positions are relative and have no weights; they need fewer epochs. 'relative': layers "
        "hstu only, a bias of attention for each distance; 'time': for each distance and time between two items.",
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

    @property
    def width(self) -> int:
        """Of the blocks: an item, with SSE-PT beside its user."""
        return self.hidden_size + (self.user_embedding_size if self.architecture == "ssept" else 0)

    @model_validator(mode="after")
    def _positions_fit(self):
        if self.positions == "time" and self.architecture == "bert4rec":
            raise ValueError(
                "positions 'time' need the time of each position, which the mask of architecture 'bert4rec' does not "
                "have: set positions to 'relative', or architecture to 'sasrec'"
            )
        if self.positions in ("relative", "time") and self.layers != "hstu":
            raise ValueError(
                f"positions '{self.positions}' are a bias that layers '{self.layers}' do not take: set layers to "
                "'hstu', or positions to 'learned' or 'rotary'"
            )
        return self

    @model_validator(mode="after")
    def _heads_divide(self):
        width = self.width
        if width % self.num_attention_heads or (self.positions == "rotary" and width // self.num_attention_heads % 2):
            parts = "even parts" if self.positions == "rotary" else "equal parts"
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} does not cut the width {width} into {parts}"
            )
        return self


class LossSettings(Settings):
    """What a target's score costs beside the scores of other items."""

    name: Literal["cross_entropy", "sampled_softmax", "in_batch_softmax", "gbce"] = Field(
        "cross_entropy",
        description="'cross_entropy' is over all items, exact, in chunks. For catalogues of 10^5 items and more: "
        "'sampled_softmax' estimates it from uniformly drawn items, 'in_batch_softmax' from the other targets of the "
        "batch, both with logQ correction; 'gbce' is gSASRec's binary cross-entropy against uniformly drawn items.",
    )
    negatives: int = Field(
        1024,
        ge=1,
        le=10**7,
        description="Items drawn for each batch; with in_batch_softmax drawn from its targets, where these are more. "
        "Not for cross_entropy.",
    )
    calibration: float = later(
        0.75,
        ge=0,
        le=1,
        description="gbce only: the paper's t. 0 is plain binary cross-entropy, 1 has calibrated probabilities.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Of the loss's matmuls, most of the work. 'auto' follows training.precision, and takes bfloat16 "
        "on CPUs that multiply in it (AVX-512 BF16, AMX, Arm's bfloat16 extension), for narrow models too.",
    )

    @property
    def compared(self) -> int | None:
        """The number of items that a target is compared with; None: all others."""
        return None if self.name == "cross_entropy" else self.negatives


class TrainingSettings(TrainerSettings):
    """The training run."""

    num_train_epochs: Count = 20
    per_device_train_batch_size: Count = Field(64, description="Windows of up to max_length items.")
    batches_sorted_together: int = later(
        8,
        ge=1,
        le=4096,
        description="Batches whose windows are sorted by length together, before the batches are shuffled. More: less "
        "padding, and rows of more similar length in a batch.",
    )
    lr_scheduler_type: Scheduler = "cosine"
    warmup_ratio: float = Field(0.1, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    adam_beta2: Beta = 0.98
    max_grad_norm: Positive = 5.0
    logging_steps: Count = 10
    precision: Precision = Field(
        "auto",
        description="Of matmuls; weights stay in float32. 'auto' follows the device and the model: float32 on a CPU "
        "without bfloat16 and for narrow models, bfloat16 elsewhere, float16 on a GPU without bfloat16.",
    )
    torch_compile: bool = Field(
        False, description="All blocks but the last; slow to start; needs a C++ compiler on a CPU."
    )
    eval_epochs: int = Field(1, ge=1, description="Epochs between validations (NDCG@10), each with a checkpoint.")
    early_stopping_patience: int = Field(
        5,
        ge=1,
        description="Validations without a better NDCG@10 after which training stops; the best weights stay.",
    )
    profile_steps: int = Field(0, ge=0, le=1000, description="Steps that the PyTorch profiler records, into profile/.")
    threads: int = Field(1, ge=1, le=1024, description="CPU threads; small models gain little from a second one.")

    @model_validator(mode="after")
    def _precision_fits(self):
        if self.precision == "float16" and self.gpus in (0, "auto"):
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

    experiment: str | None = Field(None, description="The variant's; null: this one.")
    variant: str | None = None
    path: str | None = Field(None, description="A folder of safetensors, or a .pth file (weights only).")

    @model_validator(mode="after")
    def _one_source(self):
        if (self.variant is None) == (self.path is None):
            raise ValueError("give either 'variant' or 'path'")
        if self.experiment and not self.variant:
            raise ValueError("'experiment' needs 'variant'")
        return self


class BaselineSettings(Settings):
    """Rules and shallow models in the same table."""

    use: list[Literal[BASELINES]] = Field(list(BASELINES), description="Those that are computed.")
    item_knn_neighbours: int = Field(20, ge=1)
    item_knn_shrinkage: float = Field(0.0, ge=0)
    ease_regularisation: float = Field(500.0, gt=0)
    ease_neighbours: int | None = Field(
        None,
        ge=1,
        description="EASE over this number of each item's nearest neighbours, for catalogues whose 12 * items^2 bytes "
        "do not fit; null: over all items, or not computed where that does not fit.",
    )
    recency_decay: float = Field(0.8, gt=0, le=1, description="An item counts this much of the next newer one.")


class EvaluationSettings(Settings):
    """How test users are ranked."""

    cutoffs: list[int] = Field([5, 10, 20], min_length=1)
    batch_size: int = Field(256, ge=1)
    history: Literal["exclude", "keep", "auto"] = Field(
        "auto",
        description="'exclude' ranks the catalogue without the user's history, and drops targets that are in it; "
        "'keep' ranks all of it; 'auto' keeps the history where the data has users with an item more than once.",
    )
    sampled_negatives: int | None = Field(
        100,
        ge=1,
        le=100_000,
        description="Random items of the sampled ranking, whose metrics are not comparable.",
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
    """Speed and memory of sizes and modes, each measured in a process of its own on synthetic histories."""

    sizes: dict[str, dict[str, Any]] = Field(min_length=1, description="Name: changes of `model`.")
    modes: list[Mode] = Field(["float32", "bfloat16"], min_length=1)
    item_count: int = Field(ge=2)
    batch_size: int = Field(8, ge=1)
    steps: int = Field(5, ge=2, description="Measured steps, after one that is not.")
    timeout_minutes: float = Field(30, gt=0, le=100_000, description="For each measurement.")


class RecommendationRun(Settings):
    """One variant, resolved: everything that its runs, one for each seed, depend on."""

    kind: Literal["recommendation"] = "recommendation"
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

    @model_validator(mode="after")
    def _times_are_kept(self):
        if self.model.positions == "time" and not self.data.times:
            raise ValueError("model.positions 'time' read the times of interactions: set data.times to true")
        return self

    @model_validator(mode="after")
    def _adapter_has_layers(self):
        modules = self.adapter.target_modules
        if self.adapter.method != "none" and self.model.layers == "hstu" and set(modules) <= {"up", "down"}:
            raise ValueError(
                f"adapter.target_modules {modules}: layers 'hstu' have none of them; name query_key_value or "
                "attention_output"
            )
        return self


class RecommendationExperiment(ExperimentSettings, RecommendationRun):
    """The experiment: the settings that all its runs share, and what each variant changes."""

    efficiency: EfficiencySettings | None = Field(None, description="Measure sizes and modes; null leaves it out.")
    recipe: str | None = Field(
        None,
        description="A file of settings that a search has found, such as config/recipes/shop.yaml; the keys beside it "
        "take precedence. Variants may have one too.",
    )
    search: SearchSettings | None = Field(
        None, description="Look for better settings with `make search`; variants may change it, or have their own."
    )
