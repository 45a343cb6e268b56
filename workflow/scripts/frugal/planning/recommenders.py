"""The jobs of experiments with recommenders: a training for each seed, and the evaluation of all of them."""

from pathlib import Path
from typing import Any

from frugal.config.devices import Device
from frugal.config.recommendation import RecommendationRun
from frugal.config.study import Experiment, Study
from frugal.llm.memory.estimate import CUDA_CONTEXT_MB
from frugal.planning.amounts import Sequences, Unplannable, sequences, unknown_size
from frugal.planning.flops import recommender_flops
from frugal.planning.work import Job, Work, dtype_on, family, on_device
from frugal.recsys import memory
from frugal.run.device import NARROWEST_IN_BFLOAT16

MB = 2**20
#: As in `frugal.recsys.losses`: logits that the loss holds at once on a GPU, and its copies of them.
GPU_LOGITS, LOGIT_COPIES = 2**27, 2
#: Bytes on disk of each trained weight: the model, and two checkpoints with Adam's states.
BYTES_A_TRAINED_WEIGHT = 4 + 2 * (4 + 8)


def jobs(study: Study, experiment: Experiment, device: Device, cores: int, root: Path) -> list[Job]:
    """The trainings and evaluations of an experiment, on a device; arguments as of `language_models.jobs`."""
    found = []
    for variant, run in experiment.runs.items():
        name = f"{experiment.name}/{variant}"
        trainings = {seed: f"{name} seed {seed}" for seed in run.seeds}
        about = {"kind": experiment.kind.name, "family": family(run)}
        start, before = run.warm_start, dict.fromkeys(run.seeds, ())
        if start and start.variant:
            origin = f"{start.experiment or experiment.name}/{start.variant}"
            before = {seed: ((f"{origin} seed {seed}", "training"),) for seed in run.seeds}
        ready = tuple((one, "training") for one in trainings.values())
        try:
            data = memory.data_shape(run.dataset, root / "data/prepared" / run.dataset / "summary.json")
            if data is None:
                raise Unplannable(unknown_size(run.dataset))
            narrow = run.model.width < NARROWEST_IN_BFLOAT16
            dtype = dtype_on(run.training.precision, device, "training.precision", narrow)
            loss = loss_dtype(run, dtype, device)
            run = on_device(run, device)
            counts = sequences(run, data)
        except Unplannable as problem:
            faulty = {"problem": str(problem), **about}
            found += [Job(one, "training", after=before[seed], **faulty) for seed, one in trainings.items()]
            found.append(Job(name, "evaluation", after=ready, **faulty))
            continue
        about["weights"] = memory.weights(run.model, data.items, round(counts.users))
        trained = training(run, counts, data, dtype, loss, device, cores)
        found += [Job(one, "training", after=before[seed], **about, **trained) for seed, one in trainings.items()]
        found.append(
            Job(name, "evaluation", after=ready, **about, **_evaluation(run, counts, data, dtype, device, cores))
        )
    return found


def loss_dtype(run: RecommendationRun, dtype: str, device: Device) -> str:
    """The dtype of the loss's matmuls, as `frugal.recsys.training.resolve_precision` chooses it."""
    if run.loss.precision != "auto":
        return dtype_on(run.loss.precision, device, "loss.precision")
    native = device.kind == "cpu" and "bfloat16" in device.peak_tflops
    return "bfloat16" if dtype == "float32" and native else dtype


def training_work(
    run: RecommendationRun, counts: Sequences, items: int, dtype: str, loss: str, devices: int = 1
) -> Work:
    """What one seed's training computes in all of its epochs, its validations included.

    Early stopping may end it sooner.
    """
    settings, model = run.training, run.model
    negatives = memory.compared(run)
    scored = items if negatives is None else negatives + 1
    epochs = float(settings.num_train_epochs)
    batches = max(1.0, counts.rows / (settings.per_device_train_batch_size * devices))
    if settings.max_steps > 0:
        epochs = settings.max_steps * settings.gradient_accumulation_steps / batches
    passes = 3 if run.adapter.method == "none" else 2
    length = counts.positions / counts.rows
    flops = recommender_flops(model, counts.positions * epochs, counts.targets * epochs, length, scored, passes)
    ranked, times = _ranking(run, counts, items), epochs // settings.eval_epochs
    work = {dtype: flops.blocks + times * ranked.flops[dtype]}
    work[loss] = work.get(loss, 0) + flops.scores
    return Work(work, 1.0, epochs * batches * model.num_hidden_layers, 0, times * ranked.scores)


def _ranking(run: RecommendationRun, counts: Sequences, items: int) -> Work:
    """The whole catalogue ranked once for every user, in the dtype of the blocks."""
    length = min(run.model.max_length, counts.positions / counts.users)
    flops = recommender_flops(run.model, counts.users * length, counts.users, length, items, 1)
    total = flops.blocks + flops.scores
    return Work(dict.fromkeys(("float32", "bfloat16", "float16"), total), scores=counts.users * items)


def training(
    run: RecommendationRun, counts: Sequences, data: Any, dtype: str, loss: str, device: Device, cores: int
) -> dict[str, Any]:
    gpu = device.kind == "gpu"
    devices = run.training.gpus * run.training.nodes if gpu else min(run.training.threads, cores)
    mb = memory.training_mb(run, data)
    if gpu:
        negatives = memory.compared(run)
        batch = run.training.per_device_train_batch_size
        step = memory.training_bytes(run.model, run.adapter, negatives, batch, data.items, data.users)
        logits = min(GPU_LOGITS, batch * run.model.max_length * data.items) if negatives is None else 0
        mb = CUDA_CONTEXT_MB + (step + LOGIT_COPIES * memory.FLOAT * logits) / MB
    trained = memory.weights(run.model, data.items, data.users)
    if run.adapter.method != "none":
        trained = memory.adapter_weights(run.model, run.adapter)
    return {
        "devices": devices,
        "work": training_work(run, counts, data.items, dtype, loss, devices if gpu else 1),
        "memory_mb": mb,
        "disk_mb": BYTES_A_TRAINED_WEIGHT * trained / MB,
    }


def _evaluation(
    run: RecommendationRun, counts: Sequences, data: Any, dtype: str, device: Device, cores: int
) -> dict[str, Any]:
    gpu = device.kind == "gpu"
    mb = memory.evaluation_mb(run, data)
    if gpu:
        ranked = memory.ranking_bytes(run.model, run.evaluation.batch_size, data.items)
        mb = CUDA_CONTEXT_MB + (ranked + memory.FLOAT * memory.weights(run.model, data.items, data.users)) / MB
    ranking, seeds = _ranking(run, counts, data.items), len(run.seeds)
    # Twice where sampled negatives are ranked too.
    scores = seeds * ranking.scores * (2 if run.evaluation.sampled_negatives else 1)
    batches = counts.users / memory.ranked_users(run.evaluation.batch_size, data.items)
    return {
        "devices": 1 if gpu else min(run.training.threads, cores),
        "work": Work(
            {dtype: seeds * ranking.flops[dtype]},
            launches=seeds * batches * run.model.num_hidden_layers / 3,
            scores=scores,
        ),
        "memory_mb": mb,
    }
