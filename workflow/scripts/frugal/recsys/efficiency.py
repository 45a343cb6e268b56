"""Training speed and memory of one model size in one mode, on synthetic histories."""

import math
import os
import statistics
import time
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from frugal.config.recommendation import (
    EPOCH_SAMPLES,
    AdapterSettings,
    EfficiencySettings,
    ModelSettings,
    RecommendationRun,
    TrainingSettings,
)
from frugal.errors import FrugalError
from frugal.recsys.adapters import add_adapter, trainable_counts, unwrap
from frugal.recsys.batches import Batches
from frugal.recsys.histories import Histories, Split
from frugal.recsys.modeling import IGNORED
from frugal.recsys.training import build_model, make_batches, make_loss
from frugal.recsys.training_record import matmul_share, training_flops
from frugal.run.device import is_emulated
from frugal.run.emulation import matmuls_in_float32
from frugal.run.hardware import peak_device_mb, peak_rss_mb

ZIPF_EXPONENT = 0.8


def zipf_items(count: int, item_count: int, rng: np.random.Generator) -> np.ndarray:
    """int64, (count,): random items, the n-th with a probability proportional to n^-ZIPF_EXPONENT, as in a shop."""
    weights = np.arange(1, item_count + 1) ** -ZIPF_EXPONENT
    return rng.choice(item_count, count, p=weights / weights.sum())


def synthetic_split(rows: int, length: int, item_count: int, seed: int, timed: bool = False) -> Split:
    """A split whose training part has ``rows`` users, each with ``length`` items, an hour apart; it has no targets.

    Args:
        timed: whether the times are kept.
    """
    items = zipf_items(rows * length, item_count, np.random.default_rng(seed)).astype(np.int32)
    nothing = Histories(items[:0], np.zeros(rows + 1, dtype=np.int64))
    times = 3600 * np.arange(rows * length) if timed else None
    return Split(Histories(items, np.arange(rows + 1) * length, times), nothing, nothing, item_count)


def measure(
    run: RecommendationRun, efficiency: EfficiencySettings, size: str, mode: str, device: str = "cpu"
) -> dict[str, Any]:
    """Train for a few steps, as `train_recommender` does, and report a row of measurements.json.

    The first step, which pays for allocation and compilation, does not count; speed is that of the median
    of the others. Where the device emulates the mode's dtype, a single step is measured, without warm-up.
    Call it in a separate process: peak memory is that of the process.

    Args:
        run: the settings that all sizes share; the mode decides whether its adapter is used.
        size: a key of ``efficiency.sizes``.
        mode: the precision of matmuls, and an addition to it: see `frugal.config.recommendation.Mode`.

    Raises:
        FrugalError: float16 is asked for without a GPU, or the loss is not a number.
    """
    precision, _, extra = mode.partition("+")
    kind = torch.device(device).type
    if precision == "float16" and kind == "cpu":
        raise FrugalError("float16 needs a GPU")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count()))
    settings = ModelSettings.model_validate({**run.model.model_dump(), **efficiency.sizes[size]})
    training = run.training.model_copy(update={"per_device_train_batch_size": efficiency.batch_size})
    model = build_model(settings, efficiency.item_count, efficiency.batch_size, seed=1)
    # Each history is one window without padding; a causal one has an item more than it reads.
    length, timed = settings.max_length + model.config.causal, settings.positions == "time"
    split = synthetic_split(efficiency.batch_size, length, efficiency.item_count, 1, timed)
    batches = make_batches(model, split, run.model_copy(update={"model": settings, "training": training}), seed=1)
    model.criterion = make_loss(model, split, run.loss)
    model.loss_dtype = getattr(torch, precision)  # not loss.precision: the mode sets the dtype of all matmuls
    if extra == "compile":
        model.compile_blocks()
    elif extra:
        model = add_adapter(model, AdapterSettings.model_validate({**run.adapter.model_dump(), "method": extra}), 1)
    model.to(device).train()
    emulated = is_emulated(precision, device)
    steps = (0, 1) if emulated else (1, efficiency.steps)
    # Compiled code is the library's own, however it emulates.
    with nullcontext() if extra == "compile" else matmuls_in_float32(device, precision):
        seconds, positions, targets, loss = train_steps(model, batches, training, *steps, precision, device)
    memory = {"peak_rss_mb": round(peak_rss_mb(), 1), "peak_device_mb": peak_device_mb() if kind == "cuda" else None}
    if not math.isfinite(loss):
        raise FrugalError(f"the loss is {loss}; lower training.learning_rate")
    counts = trainable_counts(model)
    flops = training_flops(
        unwrap(model), positions, targets, batches.mean_length, trainable=counts["trainable_share"] == 1
    )
    return {
        "size": size,
        "mode": mode,
        "emulated": emulated,
        "parameters": unwrap(model).parameter_counts()["parameters"],
        **counts,
        "batch_size": efficiency.batch_size,
        "sequence_length": settings.max_length,
        "step_seconds": round(seconds, 6),
        "samples_per_second": round(efficiency.batch_size / seconds, 2),
        "epoch_seconds": round(EPOCH_SAMPLES / efficiency.batch_size * seconds, 2),
        **memory,
        "matmul_peak_share": round(matmul_share(flops, seconds, precision, precision, device), 4),
        "loss": loss,
        "error": None,
    }


def train_steps(
    model: torch.nn.Module,
    batches: Batches,
    training: TrainingSettings,
    warm_up: int,
    steps: int,
    precision: str,
    device: str,
) -> tuple[float, int, float, float]:
    """Train for ``warm_up`` steps, then measure ``steps`` more.

    Returns:
        Seconds of the median step; positions that a step reads; target positions of the mean step; the
        last loss.
    """
    kind = torch.device(device).type
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # As the library's trainer has it by default.
    optimizer = torch.optim.AdamW(
        weights, training.learning_rate, (0.9, training.adam_beta2), weight_decay=training.weight_decay, fused=True
    )
    scaler = torch.amp.GradScaler(kind, enabled=precision == "float16")
    seconds, targets = [], []
    for step in range(warm_up + steps):
        batch = batches[step, 0]
        started = time.perf_counter()
        batch = {name: value.to(device) for name, value in batch.items()}
        with torch.autocast(kind, getattr(torch, precision), enabled=precision != "float32"):
            loss = model(**batch).loss
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(weights, training.max_grad_norm)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        if kind == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
        targets.append(int((batch["labels"] != IGNORED).sum()))
    positions, mean_targets = batch["input_ids"].numel(), statistics.mean(targets[warm_up:])
    return statistics.median(seconds[warm_up:]), positions, mean_targets, loss.item()
