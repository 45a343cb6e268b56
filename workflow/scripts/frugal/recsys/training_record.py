"""The training record of a recommender: speed, memory, share of the matmul peak; and its history."""

from math import inf
from typing import Any

import torch

from frugal.recsys.adapters import trainable_counts, unwrap
from frugal.recsys.losses import InBatchSoftmax
from frugal.recsys.modeling import Recommender
from frugal.recsys.trainer import CRITERION, RecommenderTrainer
from frugal.run.checkpoints import Progress, write_history
from frugal.run.hardware import describe_hardware, package_versions, peak_device_mb, peak_rss_mb
from frugal.run.matmul_peak import native_peak_flops

HISTORY = ["step", "epoch", "loss", "learning_rate", "grad_norm", CRITERION, "HR@10", "target_positions", "seconds"]
HISTORY += ["rss_mb", "device_mb", "device_utilization"]


def training_record(trainer: RecommenderTrainer, progress: Progress, seed: int, steps_per_epoch: int) -> dict[str, Any]:
    """The content of training.json of a finished run."""
    # Before the matmul peak is measured, which takes memory too.
    peak_rss, peak_device = peak_rss_mb(), peak_device_mb()
    state, training, model = trainer.state, trainer.args, unwrap(trainer.model)
    batches, history = trainer.batches, state.log_history
    evaluating = sum(entry.get("eval_seconds", 0) for entry in history)
    seconds = progress.seconds - evaluating
    epochs = state.global_step / steps_per_epoch
    targets = state.num_input_tokens_seen
    counts = trainable_counts(trainer.model)
    device = "cpu" if training.use_cpu else "cuda"
    dtype = "bfloat16" if training.bf16 else "float16" if training.fp16 else "float32"
    loss_dtype = str(model.loss_dtype).removeprefix("torch.")
    in_batch = targets / (state.global_step * training.gradient_accumulation_steps * training.world_size)
    flops = training_flops(
        model, epochs * batches.positions, targets, batches.mean_length, counts["trainable_share"] == 1, in_batch
    )
    share = matmul_share(flops, seconds, dtype, loss_dtype, device)
    return {
        "seed": seed,
        "steps": state.global_step,
        "epochs": round(epochs, 2),
        "best_epoch": round((state.best_global_step or state.global_step) / steps_per_epoch, 2),
        "stopped_early": state.global_step < state.max_steps,
        "seconds": round(progress.seconds, 2),
        "epoch_seconds": round(seconds / epochs, 3),
        "samples_per_second": round(epochs * batches.rows / seconds, 2),
        "target_positions": targets,
        "target_positions_per_second": round(targets / seconds, 1),
        **model.parameter_counts(),
        **counts,
        "peak_rss_mb": round(peak_rss, 1),
        "peak_device_mb": peak_device,
        "device": device,
        "compute_dtype": dtype,
        "loss_precision": loss_dtype,
        "matmul_peak_share": round(share / training.world_size, 4),
        "final_loss": next(entry["loss"] for entry in reversed(history) if "loss" in entry),
        f"best_validation_{CRITERION}": state.best_metric,
        "hardware": describe_hardware(),
        "versions": package_versions(),
    }


def training_flops(
    model: Recommender, positions: float, targets: float, mean_length: float, trainable: bool, in_batch: float = inf
) -> dict[str, float]:
    """Floating-point operations of training on ``positions`` positions, without padding: of the blocks, of the loss.

    A matmul takes 2 operations for each weight and position in the forward pass, 2 for the gradient of its input,
    and 2 for that of its weight if this is trained. Attention, queries with keys and probabilities with values, takes
    4 x width for each pair of positions that attend to each other (half of all pairs in causal models), and twice
    that in the backward pass.

    Args:
        targets: the number of positions that contribute to the loss.
        mean_length: positions of a sequence.
        trainable: whether all weights are trained.
        in_batch: targets of a batch; an in-batch softmax compares with no more.
    """
    config = model.config
    everywhere = sum(module.weight.numel() for module in model.blocks.modules() if isinstance(module, torch.nn.Linear))
    # In the last block, only target positions go on after attention.
    at_targets = model.blocks[-1].weights_after_attention(config)
    weights = positions * (everywhere - at_targets) + targets * at_targets
    pairs = mean_length * (0.5 if config.causal else 1)
    attention = 4 * config.width * pairs * config.num_hidden_layers
    negatives = model.criterion.negatives
    if isinstance(model.criterion, InBatchSoftmax):
        negatives = min(negatives, in_batch)
    items = config.item_count if negatives is None else negatives + 1
    output = config.hidden_size * items + (config.width**2 if getattr(config, "output_projection", False) else 0)
    passes = 3 if trainable else 2
    return {"blocks": 2 * weights * passes + positions * attention * 3, "loss": targets * 2 * output * passes}


def matmul_share(flops: dict[str, float], seconds: float, precision: str, loss_precision: str, device: str) -> float:
    """The share of ``seconds`` that the same operations take as large matmuls of the same dtypes."""
    peaks = {dtype: native_peak_flops(dtype, device) for dtype in {precision, loss_precision}}
    return (flops["blocks"] / peaks[precision] + flops["loss"] / peaks[loss_precision]) / seconds


def history_csv(trainer: RecommenderTrainer) -> str:
    """history.csv: losses and validation metrics, a row a step, and the memory in use."""
    rows = ({name.removeprefix("eval_"): value for name, value in entry.items()} for entry in trainer.state.log_history)
    return write_history((row for row in rows if "loss" in row or CRITERION in row), HISTORY)
