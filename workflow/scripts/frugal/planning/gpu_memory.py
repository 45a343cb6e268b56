"""Which GPU each training of a language model needs: its peak memory by parts."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from frugal.config.study import Study
from frugal.kinds import LANGUAGE_MODELING, PREFERENCE
from frugal.llm.memory.plan import USABLE, needed, sequence_length
from frugal.run.gpus import resolve_gpus

GPU_GB = (8, 16, 24, 40, 80)
PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "overhead", "total")


def gpu_memory(study: Study, models: Path) -> list[dict[str, Any]]:
    """A row for each run that trains a language model, in GB of 2^30 bytes, on the device that the study names.

    Args:
        models: the folder of prepared models.

    Raises:
        FrugalError: a prepared model's configuration is damaged.
    """
    rows = []
    for name, experiment in study.of_kind(PREFERENCE, LANGUAGE_MODELING).items():
        for variant in experiment.variants:
            run = resolve_gpus(experiment.runs[variant])
            row = {
                "run": f"{name}/{variant}",
                "model": run.base_model,
                "method": "QLoRA" if run.model.quantization == "nf4" else "LoRA",
                "device": "GPU" if run.training.gpus else "CPU",
                "batch_size": run.training.per_device_train_batch_size,
                "sequence_length": sequence_length(run),
            }
            estimated = needed(run, study.models[run.base_model], models)
            if estimated is None:
                row["unknown"] = f"the shape of {run.base_model} is not known before it is fetched: snakemake models"
            else:
                parts = estimated.as_dict()
                row["gb"] = {part: round(parts[part] / 1024, 2) for part in PARTS}
                row["fits"] = {str(size): parts["total"] <= USABLE * size * 1024 for size in GPU_GB}
            rows.append(row)
    return rows


def memory_lines(rows: Iterable[dict[str, Any]]) -> list[list[str]]:
    """The rows as cells, below a heading."""
    named = ("run", "model", "method", "device", "batch_size", "sequence_length")
    lines = [["run", "model", "method", "device", "batch", "length", *PARTS, *(f"{size} GB" for size in GPU_GB)]]
    for row in rows:
        line = [str(row[key]) for key in named]
        if "unknown" in row:
            lines.append([*line, row["unknown"]])
            continue
        line += [f"{row['gb'][part]:.2f}" for part in PARTS]
        lines.append([*line, *("fits" if row["fits"][str(size)] else "no" for size in GPU_GB)])
    return lines
