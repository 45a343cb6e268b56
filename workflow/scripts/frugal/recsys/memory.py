"""What a recommender's jobs need of memory at their peak, from the shapes of model and data and the settings alone.

Counted for one process on a CPU, in float32 whatever the precision: weights and their states are kept in it, and for
models of some megabytes it matters little which activations are in 16 bits. torch is not imported.

Letters: P positions of a batch (its size x max_length), w width, f intermediate size, d width of the item
embeddings, I items. What a process needs beside its tensors, and the bytes for each interaction, are measured.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from frugal.config.recommendation import AdapterSettings, EfficiencySettings, ModelSettings, RecommendationRun
from frugal.files import read_json
from frugal.run.resources import CUDA_HOST_MB

MB = 2**20
#: Bytes of a float32.
FLOAT = 4
#: As in `frugal.recsys.layers`: attention over at most this many positions keeps all probabilities.
FEW_POSITIONS = 64
#: As in `frugal.recsys.positions`.
TIME_BUCKETS = 128
#: As in `frugal.recsys.losses`: logits that the loss aims to hold at once on a CPU, and the fewest positions.
CHUNK_LOGITS = 2**19
SMALLEST_CHUNK = 128
#: As in `frugal.recsys.baselines`: similarities that are computed at once, at 20 bytes each.
BLOCK_ENTRIES = 4_000_000
#: As in `frugal.recsys.evaluation`: scores that ranking holds at once.
SCORES = 2**25
#: Arrays of P x w and of P x f that a layer keeps for its backward pass, and that it has at once without one.
KEPT = {"transformer": (13, 2), "ligr": (17, 4), "hstu": (19, 0)}
RANKED = {"transformer": (6, 2), "ligr": (8, 4), "hstu": (10, 0)}
#: MB of a process that has imported torch and transformers and trained a tiny model; and what PEFT adds.
PROCESS_MB = 550
PEFT_MB = 60
#: MB of one that fits baselines: SciPy, pandas, and torch for the ranking.
BASELINES_MB = 410
#: MB of the process that starts the measurements of efficiency and waits for them.
PARENT_MB = 240
#: As in `frugal.recsys.losses`: logits that the loss aims to hold at once on a GPU.
GPU_CHUNK_LOGITS = 2**27
#: MB of CUDA, cuBLAS and the allocator's gaps on a GPU, beside the tensors: a round number from experience.
GPU_OVERHEAD_MB = 1000
#: Bytes on disk for each weight of a checkpoint: the weight and Adam's two states. There are up to three: the newest
#: before the last one is deleted, and the best.
CHECKPOINT_BYTES, CHECKPOINTS = 12, 3
#: MB of the C++ compiler, which has ended when a step is at its highest.
COMPILING_MB = 500
#: Bytes of EASE for each pair of items: weights in float64, and a copy in float32.
EASE_BYTES = 12
#: Bytes of each interaction: in the histories that models read, and of their times; in the baselines; and while ratings
#: are prepared, cut into shards and made into pairs.
HISTORY_BYTES, TIMES_BYTES, BASELINE_BYTES = 50, 40, 120
PREPARATION_BYTES, PARTITION_BYTES, PAIRS_BYTES = 110, 150, 300
#: Copies of the scores of a batch of users that ranking holds at once.
RANKING_COPIES = 6


@dataclass(frozen=True)
class DataShape:
    """Counts of a prepared data set."""

    users: int
    items: int
    interactions: int


#: The public data sets of config/datasets.yaml, as their pages and papers have them.
PUBLISHED = {
    "movielens-100k": DataShape(943, 1_682, 100_000),
    "movielens-1m": DataShape(6_040, 3_883, 1_000_209),
    "movielens-20m": DataShape(138_493, 27_278, 20_000_263),
    "amazon-beauty-2014": DataShape(22_363, 12_101, 198_502),
    "amazon-electronics-2014": DataShape(192_403, 63_001, 1_689_188),
    "amazon-electronics-2018": DataShape(728_719, 160_052, 6_739_590),
}


def data_shape(name: str, summary: Path) -> DataShape | None:
    """Counts of a data set: of its summary.json where it is prepared, else as published; None where neither is."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        read = read_json(summary)
        return DataShape(int(read["users"]), int(read["items"]), int(read["rows_kept"]))
    return PUBLISHED.get(name)


def weights(model: ModelSettings, items: int, users: int) -> int:
    """Number of weights of a model, as `frugal.recsys.modeling` builds it."""
    ssept, bert4rec = model.architecture == "ssept", model.architecture == "bert4rec"
    width = model.width
    inner, attention = model.intermediate_size, 4 * (width**2 + width)
    block = {
        "transformer": attention + 2 * width * inner + inner + 5 * width,
        "ligr": attention + 2 * (width**2 + width) + 3 * width * inner + 4 * width,
        "hstu": 5 * width**2 + 5 * width,
    }[model.layers]
    embeddings = (items + bert4rec) * model.hidden_size + items + (users * model.user_embedding_size if ssept else 0)
    positions = {
        "learned": model.max_length * width,
        "rotary": 0,
        "relative": (2 * model.max_length - 1) * model.num_hidden_layers,
        "time": (2 * model.max_length - 1 + TIME_BUCKETS) * model.num_hidden_layers,
    }[model.positions]
    projection = width**2 + 3 * width if bert4rec and model.output_projection else 0
    return embeddings + positions + model.num_hidden_layers * block + 2 * width + projection


def adapter_weights(model: ModelSettings, adapter: AdapterSettings) -> int:
    """Number of weights of a LoRA adapter, rank x (inputs + outputs) a layer; of iLoRA without its small gate."""
    width, inner = model.width, model.intermediate_size
    ends = {"query_key_value": 4 * width, "attention_output": 2 * width, "up": width + inner, "down": width + inner}
    if model.layers == "ligr":
        ends["up"] = width + 2 * inner
    elif model.layers == "hstu":
        ends = {"query_key_value": 5 * width, "attention_output": 2 * width}
    return model.num_hidden_layers * adapter.r * sum(ends.get(name, 0) for name in adapter.target_modules)


def attention_entries(model: ModelSettings, batch_size: int) -> int:
    """Entries of a layer's arrays with a place for each pair of positions; long softmax attention holds none."""
    arrays = 3 if model.layers == "hstu" else 2 * (model.max_length <= FEW_POSITIONS)
    between = 4 * (model.positions == "time")  # buckets and bias, the same for all heads
    return (arrays * model.num_attention_heads + between) * batch_size * model.max_length**2


def training_bytes(
    model: ModelSettings, adapter: AdapterSettings, negatives: int | None, batch_size: int, items: int, users: int
) -> int:
    """Bytes of one training step's tensors: weights and their states, activations, loss.

    * A trained weight has itself, its gradient and Adam's two states; a frozen one itself.
    * A block keeps for its backward pass 13 arrays of P x w (two norms, the packed queries, keys and values and
      their copies in the order that attention wants, the attended, two dropout masks, two residuals) and 2 of P x f,
      of LiGR 17 (two gates, and what they multiply) and 4, of HSTU 19 and none; short attention its probabilities,
      that of HSTU its scores and weights at any length. The backward pass adds the gradients of the widest arrays.
    * The loss holds the logits of a chunk and, for all items, the gradient of their embeddings and a copy of it;
      with cosine scores also the normalised embeddings and their gradient.

    Args:
        negatives: the number of items that a target is compared with; None for the whole catalogue.
    """
    width, inner = model.width, model.intermediate_size
    whole = weights(model, items, users)
    states = 4 * whole if adapter.method == "none" else whole + 4 * adapter_weights(model, adapter)
    positions = batch_size * model.max_length
    widths, inners = KEPT[model.layers]
    block = positions * (widths * width + inners * inner) + attention_entries(model, batch_size)
    kept = model.num_hidden_layers * block + 5 * positions * width
    passing = 2 * positions * max(inner * (1 + (model.layers == "ligr")), 3 * width)
    scored = positions if model.architecture != "bert4rec" else round(positions * min(1, 1.2 * model.mask_probability))
    loss = 4 * scored * model.hidden_size
    if negatives is None:
        chunk = min(max(SMALLEST_CHUNK, CHUNK_LOGITS // items, model.hidden_size), max(scored, SMALLEST_CHUNK))
        loss += chunk * items + (4 if model.score == "cosine" else 2) * items * model.hidden_size
    else:
        loss += 4 * scored * negatives
    return FLOAT * (states + kept + passing + loss)


def ranked_users(batch_size: int, items: int) -> int:
    """Users that are ranked at once."""
    return max(1, min(batch_size, SCORES // items))


def ranking_bytes(model: ModelSettings, batch_size: int, items: int) -> int:
    """Bytes of ranking the catalogue for ``batch_size`` users: their scores, six copies of them, and one block."""
    batch_size = ranked_users(batch_size, items)
    positions = batch_size * model.max_length
    widths, inners = RANKED[model.layers]
    block = positions * (widths * model.width + inners * model.intermediate_size) + attention_entries(model, batch_size)
    return FLOAT * (RANKING_COPIES * batch_size * items + block)


def history_bytes(run: RecommendationRun, data: DataShape) -> float:
    """Bytes of the histories that a run reads."""
    return (HISTORY_BYTES + TIMES_BYTES * run.data.times) * data.interactions * run.data.fraction


def compared(run: RecommendationRun) -> int | None:
    """The number of items that a target is compared with at once; None: the whole catalogue."""
    if run.loss.name == "in_batch_softmax":  # from the targets of the batch, however many are asked for
        return min(run.loss.negatives, run.training.per_device_train_batch_size * run.model.max_length)
    return run.loss.compared


def training_mb(run: RecommendationRun, data: DataShape) -> float:
    """MB (2^20 bytes) of one seed's training, all of its processes together."""
    training, model = run.training, run.model
    history = history_bytes(run, data)
    if training.gpus:
        return training.gpus * (CUDA_HOST_MB + (history + 2 * FLOAT * weights(model, data.items, data.users)) / MB)
    batch = training.per_device_train_batch_size
    step = training_bytes(model, run.adapter, compared(run), batch, data.items, data.users)
    ranked = FLOAT * 4 * weights(model, data.items, data.users)
    ranked += ranking_bytes(model, run.evaluation.batch_size, data.items)
    compiling = COMPILING_MB if training.torch_compile else 0
    return process_mb(run.adapter) + history / MB + max(step / MB, ranked / MB, compiling)


def device_mb(run: RecommendationRun, data: DataShape) -> float:
    """MB (2^20 bytes) of a GPU that one process of a training takes, counted from the shapes; not measured on a GPU.

    As `training_bytes`, but matmuls in 16 bits keep activations in 16 bits, and the loss holds more logits at once, and
    their probabilities beside them. Precision 'auto' counts as 16 bits.
    """
    training, model = run.training, run.model
    number, of_loss = (4 if precision == "float32" else 2 for precision in (training.precision, run.loss.precision))
    negatives = compared(run)
    batch = training.per_device_train_batch_size
    whole = weights(model, data.items, data.users)
    states = FLOAT * (4 * whole if run.adapter.method == "none" else whole + 4 * adapter_weights(model, run.adapter))
    step = training_bytes(model, run.adapter, negatives or 1, batch, data.items, data.users) - states
    loss = 0 if negatives else of_loss * 2 * min(GPU_CHUNK_LOGITS, batch * model.max_length * data.items)
    gradient = 0 if negatives else FLOAT * 2 * data.items * model.hidden_size
    ranked = ranking_bytes(model, run.evaluation.batch_size, data.items)
    return GPU_OVERHEAD_MB + (states + max(step * number / FLOAT + loss + gradient, ranked)) / MB


def disk_bytes(run: RecommendationRun, data: DataShape) -> int:
    """Bytes on disk of one seed's training: its checkpoints, which go when it ends."""
    if run.adapter.method != "none":
        return CHECKPOINTS * CHECKPOINT_BYTES * adapter_weights(run.model, run.adapter)
    return CHECKPOINTS * CHECKPOINT_BYTES * weights(run.model, data.items, data.users)


def evaluation_mb(run: RecommendationRun, data: DataShape) -> float:
    """MB (2^20 bytes) of ranking the catalogue for all test users, one seed's model after the other."""
    needed = history_bytes(run, data)
    needed += 2 * FLOAT * weights(run.model, data.items, data.users)
    if run.training.gpus:
        return CUDA_HOST_MB + needed / MB
    needed += ranking_bytes(run.model, run.evaluation.batch_size, data.items)
    return process_mb(run.adapter) + needed / MB


def process_mb(adapter: AdapterSettings) -> int:
    """MB (2^20 bytes) of a process beside its tensors."""
    return PROCESS_MB + PEFT_MB * (adapter.method == "lora")


def baselines_mb(run: RecommendationRun, data: DataShape, limit_mb: float) -> float:
    """MB (2^20 bytes) of fitting and ranking the baselines.

    Similarities take some arrays of `BLOCK_ENTRIES` and the neighbours of each item. EASE over all items is the
    largest; where the job would not fit into ``limit_mb`` with it, it is not computed.
    """
    items, settings = data.items, run.baselines
    near = 20 * min(BLOCK_ENTRIES, items**2) + 40 * items * max(
        settings.item_knn_neighbours, settings.ease_neighbours or 0
    )
    ranked = FLOAT * RANKING_COPIES * ranked_users(run.evaluation.batch_size, items) * items
    base = BASELINES_MB + (BASELINE_BYTES * data.interactions + near + ranked) / MB
    dense = settings.ease_neighbours is None and not {"ease", "ease_recency"}.isdisjoint(settings.use)
    with_ease = base + EASE_BYTES * items**2 / MB * dense
    return with_ease if with_ease <= limit_mb else base


def efficiency_mb(run: RecommendationRun, efficiency: EfficiencySettings) -> float:
    """MB (2^20 bytes) of the measurements of efficiency: of the largest size, in the mode that needs most."""
    if run.training.gpus:
        return PARENT_MB + CUDA_HOST_MB
    steps = []
    for changes in efficiency.sizes.values():
        model = ModelSettings.model_validate({**run.model.model_dump(), **changes})
        for mode in efficiency.modes:
            extra = mode.partition("+")[2]
            adapter = run.adapter.model_copy(update={"method": extra if "lora" in extra else "none"})
            step = training_bytes(model, adapter, run.loss.compared, efficiency.batch_size, efficiency.item_count, 0)
            steps.append(process_mb(adapter) + max(step / MB, COMPILING_MB if extra == "compile" else 0))
    return PARENT_MB + max(steps)


def preparation_mb(data: DataShape) -> float:
    """MB (2^20 bytes) of bringing ratings to Parquet."""
    return 200 + PREPARATION_BYTES * data.interactions / MB


def partition_mb(data: DataShape) -> float:
    """MB (2^20 bytes) of cutting histories into shards."""
    return 160 + PARTITION_BYTES * data.interactions / MB


def pairs_mb(data: DataShape) -> float:
    """MB (2^20 bytes) of making preference pairs from ratings."""
    return 160 + PAIRS_BYTES * data.interactions / MB


def pair_baselines_mb(data: DataShape, limit_mb: float) -> float:
    """MB (2^20 bytes) of the baselines of preference pairs; EASE is not computed where it exceeds ``limit_mb``."""
    base = BASELINES_MB + PAIRS_BYTES * data.interactions / MB
    with_ease = base + EASE_BYTES * data.items**2 / MB
    return with_ease if with_ease <= limit_mb else base
