"""Which GPU each language-model run of a study needs: an estimate, before anything is downloaded."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from frugal.config.study import read_study
from frugal.errors import FrugalError, run_script
from frugal.files import write_json
from frugal.kinds import LANGUAGE_MODELING, PREFERENCE
from frugal.llm.memory.plan import USABLE, needed, sequence_length
from frugal.run.gpus import resolve_gpus

GPU_GB = (16, 24, 40, 80)
PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "overhead", "total")


def plan(config_file: Path, models: Path) -> list[dict[str, Any]]:
    """A row for each run that trains a language model.

    Raises:
        FrugalError: the study or a table is faulty, or names an unknown model.
    """
    study = read_study(config_file)
    rows = []
    for name, experiment in study.of_kind(PREFERENCE, LANGUAGE_MODELING).items():
        for variant in experiment.variants:
            run = resolve_gpus(experiment.runs[variant])
            if run.base_model not in study.models:
                raise FrugalError(f"{config_file}: experiments.{name}.base_model: there is no model '{run.base_model}'")
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


def as_text(rows: Sequence[dict[str, Any]]) -> str:
    """The plan as an aligned table; GB are 2^30 bytes."""
    named = ("run", "model", "method", "device", "batch_size", "sequence_length")
    lines = [["run", "model", "method", "device", "batch", "length", *PARTS, *(f"{size} GB" for size in GPU_GB)]]
    for row in rows:
        line = [str(row[key]) for key in named]
        if "unknown" in row:
            lines.append([*line, row["unknown"]])
        else:
            line += [f"{row['gb'][part]:.2f}" for part in PARTS]
            lines.append([*line, *("fits" if row["fits"][str(size)] else "no" for size in GPU_GB)])
    widths = [max(len(line[i]) for line in lines if len(line) == len(lines[0])) for i in range(len(lines[0]))]
    widths[: len(named)] = [max(len(line[i]) for line in lines) for i in range(len(named))]
    words = 4  # names stand left, numbers right
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < words or len(cell) > width else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=False))
        ).rstrip()
        for line in lines
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configfile", type=Path, default=Path("config/full.yaml"), help="the study")
    parser.add_argument("--models", type=Path, default=Path("data/models"), help="folder of prepared models")
    parser.add_argument("--json", type=Path, help="output: the same as JSON")
    args = parser.parse_args()
    rows = plan(args.configfile, args.models)
    print(
        f"Estimated peak memory of training, in GB of 2^30 bytes; a run fits where it leaves {1 - USABLE:.0%} free.\n"
    )
    print(as_text(rows))
    if args.json:
        write_json(args.json, rows)


if __name__ == "__main__":
    run_script(main)
