"""Measure memory and speed of one rung of the ladder, and of larger batches up to a budget, in this process."""

import argparse
import gc
import json
import math
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet

from frugal.config.errors import validate
from frugal.config.language_modeling import LanguageModelingRun
from frugal.errors import FrugalError, lacks_memory, run_script
from frugal.files import write_json
from frugal.run.hardware import choose_device, keep_freed_memory, peak_rss_mb
from frugal.run.libraries import hide_bitsandbytes, imports


def first_blocks(path: Path, count: int, length: int) -> list[dict[str, list[int]]]:
    """The first ``count`` blocks of ``length`` tokens, repeated if there are fewer.

    Shorter blocks need less memory, and are used only if there are no full ones.

    Raises:
        FrugalError: there are no blocks.
    """
    full, shorter = [], []
    for batch in parquet.ParquetFile(path).iter_batches(64, columns=["input_ids", "segment_lengths"]):
        for block in batch.to_pylist():
            (full if len(block["input_ids"]) == length else shorter).append(block)
        if len(full) >= count:  # all blocks of a large corpus would add to the measured memory
            break
    blocks = full or shorter
    if not blocks:
        raise FrugalError(f"{path}: holds no block; lower corpus.block_length, or train on more text")
    return list(islice(cycle(blocks), count))


def taken_device_memory() -> float:
    """MB of the GPU in use before the model is loaded: by CUDA itself, and by other processes."""
    import torch

    free, total = torch.cuda.mem_get_info()
    return (total - free) / 2**20


def limit_device_memory(budget_mb: float | None, taken_mb: float) -> None:
    """Limit this process to ``budget_mb`` of the GPU, including the ``taken_mb`` in use before."""
    import torch

    _, total = torch.cuda.mem_get_info()
    share = 1.0 if budget_mb is None else (budget_mb - taken_mb) * 2**20 / total
    torch.cuda.set_per_process_memory_fraction(min(max(share, 0.0), 1.0))


def measure(
    run: LanguageModelingRun, method: str, base_model: Path, path: Path, batch_size: int, steps: int
) -> dict[str, Any]:
    """The figures of `train_for_measurement`, with the loss of the last step.

    Raises:
        FrugalError: the loss is not a number.
    """
    from frugal.llm.measurement import train_for_measurement

    training = run.training.model_copy(update={"per_device_train_batch_size": batch_size})
    blocks = first_blocks(path, batch_size * steps, run.corpus.block_length)
    measured = train_for_measurement(base_model, blocks, run.model_copy(update={"training": training}), method, steps)
    loss = measured.pop("losses")[-1]
    if not math.isfinite(loss):
        raise FrugalError(f"the loss is {loss} at step {steps}; lower training.learning_rate")
    return {**measured, "loss": loss}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path, help="JSON: `run`, a resolved run, and `method`")
    parser.add_argument("--base-model", required=True, type=Path, help="folder of the base model")
    parser.add_argument("--blocks", required=True, type=Path, help="train.parquet of packed blocks")
    parser.add_argument("--batch-size", type=int, help="blocks in each step of the measurement, without a budget")
    parser.add_argument("--steps", type=int, help="its steps")
    parser.add_argument("--search", type=int, nargs="+", default=[], help="batch sizes to try then, ascending")
    parser.add_argument("--search-steps", type=int, default=1, help="steps of each of them")
    parser.add_argument(
        "--memory-budget-mb", type=float, help="memory for a batch; the first that exceeds it ends the search"
    )
    parser.add_argument("--output", required=True, type=Path, help="output: a list, JSON; grows with each batch size")
    args = parser.parse_args()
    settings = json.loads(args.settings.read_text(encoding="utf-8"))
    run = validate(LanguageModelingRun, settings["run"], file=str(args.settings))
    keep_freed_memory(run.training.keep_freed_memory)
    hide_bitsandbytes(run.model.quantization, run.training.optim)
    device = choose_device(min(1, run.training.gpus))

    with imports():
        import torch

        import frugal.llm.measurement  # noqa: F401  (its imports are part of the baseline)

    baseline = peak_rss_mb() if device == "cpu" else taken_device_memory()
    tries = [(args.batch_size, args.steps, None)] if args.batch_size else []
    tries += [(batch_size, args.search_steps, args.memory_budget_mb) for batch_size in args.search]
    results = []
    for batch_size, steps, budget in tries:
        if device != "cpu":
            torch.cuda.reset_peak_memory_stats()
            limit_device_memory(budget, baseline)
        try:
            result = measure(run, settings["method"], args.base_model, args.blocks, batch_size, steps)
        except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
            if not lacks_memory(error):
                raise
            results.append({"batch_size": batch_size, "fits": False, "peak_mb": None})
        else:
            peak = result["peak_rss_mb"] if device == "cpu" else baseline + result["peak_device_mb"]
            fits = args.memory_budget_mb is None or peak <= args.memory_budget_mb
            memory = {"fits": fits, "peak_mb": round(peak, 1), "baseline_mb": round(baseline, 1)}
            results.append({"batch_size": batch_size, **memory, **result})
        write_json(args.output, results)
        if not results[-1]["fits"]:
            return
        gc.collect()  # free this model before the next batch size
        if device != "cpu":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    run_script(main)
