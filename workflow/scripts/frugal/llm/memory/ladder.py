"""The memory ladder: the settings of each rung, and the search for the largest batch within a memory budget."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from frugal.config.language_modeling import RUNGS, LanguageModelingRun
from frugal.llm.memory.estimate import Method

#: The first rung saves no memory. Each batch is one step, so that whole steps are measured. On all rungs freed memory
#: returns to the system, so that the peak is that of a step and not of memory kept from earlier ones.
START = {
    "backend": "transformers",
    "model": {"quantization": "none", "double_quantization": False, "compute_dtype": "float32"},
    "training": {
        "gradient_accumulation_steps": 1,
        "optim": "adamw_torch",
        "gradient_checkpointing": False,
        "loss_chunk_tokens": None,
        "keep_freed_memory": False,
    },
}
LOSS_CHUNK_TOKENS = 512


@dataclass(frozen=True)
class Rung:
    """One rung: its name, its change in words, and the settings that it is measured with."""

    name: str
    changed: str
    method: Method
    run: LanguageModelingRun


@dataclass(frozen=True)
class Probe:
    """The result of one batch size; ``peak_mb`` of a stopped process is what it had reached."""

    batch_size: int
    fits: bool
    peak_mb: float | None


def climb(run: LanguageModelingRun) -> dict[str, Rung]:
    """Name -> rung, in order; each adds its change to those before it. All other settings are those of ``run``."""
    gpu = run.training.gpus > 0
    low_precision = "float16" if gpu and run.model.compute_dtype == "float16" else "bfloat16"
    optim = "paged_adamw_8bit" if gpu else "adamw_8bit"  # paging is between a GPU and the host
    changes: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {
        "full": ("all weights are trained, in float32, by plain AdamW", START),
        "lora": ("the weights are frozen, and an adapter is trained", {}),
        "nf4": ("the frozen weights are kept in 4 bits (NF4)", {"model": {"quantization": "nf4"}}),
        "double_quantization": (
            "the constants of the quantisation are quantised too",
            {"model": {"double_quantization": True}},
        ),
        "mixed_precision": (
            f"matmuls and activations are in {low_precision}",
            {"model": {"compute_dtype": low_precision}},
        ),
        "gradient_checkpointing": (
            "activations are recomputed in the backward pass",
            {"training": {"gradient_checkpointing": True}},
        ),
        "optimizer_8bit": ("the optimiser's states are kept in 8 bits", {"training": {"optim": optim}}),
        "chunked_loss": (
            f"the loss is computed for {LOSS_CHUNK_TOKENS} tokens at a time",
            {"training": {"loss_chunk_tokens": LOSS_CHUNK_TOKENS}},
        ),
    }
    settings, rungs = run.model_dump(), {}
    for name in RUNGS:
        words, changed = changes[name]
        for section, values in changed.items():
            settings[section] = {**settings[section], **values} if isinstance(values, dict) else values
        method: Literal["full", "lora"] = "full" if name == "full" else "lora"
        rungs[name] = Rung(name, words, method, LanguageModelingRun.model_validate(settings))
    return rungs


def search_largest_batch(
    probe: Callable[[list[int]], Iterable[Probe]], guess: int, low: int, high: int
) -> tuple[int, list[Probe]]:
    """The largest batch size that fits, and all probes.

    From ``guess`` upwards in growing strides (1, 2, 4, ...) until a batch does not fit, then by bisection below it
    (Bentley and Yao 1976, doi:10.1016/0020-0190(76)90071-5). With a good guess two probes suffice: one that fits and
    its neighbour that does not. ``probe`` gets the whole ascending list at once, because one process can measure all of
    it, and starting the process takes most of a small model's measurement.

    Args:
        probe: measures ascending batch sizes, up to the first that does not fit.
        low: a batch size that is known to fit; 0 always does.
        high: one that does not fit, or that is beyond the limit.
    """
    tried: list[Probe] = []
    sizes = upwards(min(max(guess, low + 1), high - 1), high)
    while high - low > 1:
        for found in probe(sizes):
            tried.append(found)
            low, high = (found.batch_size, high) if found.fits else (low, found.batch_size)
        sizes = halfway(low, high)
    return low, tried


def upwards(start: int, stop: int) -> list[int]:
    """``start``, then 1, 2, 4, ... more each time, and last ``stop`` - 1."""
    sizes, stride = [start], 1
    while sizes[-1] < stop - 1:
        sizes.append(min(sizes[-1] + stride, stop - 1))
        stride *= 2
    return sizes


def halfway(low: int, high: int) -> list[int]:
    """The middle between ``low`` and ``high``, then that between it and ``high``, up to ``high`` - 1."""
    sizes = []
    while high - low > 1:
        low = (low + high) // 2
        sizes.append(low)
    return sizes
