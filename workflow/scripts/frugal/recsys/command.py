"""The command line of the training scripts of recommenders."""

import argparse
from pathlib import Path

from frugal.kinds import RECOMMENDATION
from frugal.run.hardware import choose_device, keep_freed_memory
from frugal.run.libraries import hide_unused, imports
from frugal.run.outputs import load_run, run_name
from frugal.run.progress import PROGRESS


def train(script: str, description: str) -> int | None:
    """Read the arguments and the settings, and train: see `frugal.recsys.training.train`.

    The libraries are imported after the settings are known, because these decide which are needed.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", required=True, help="the run's settings/training.yaml")
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--sequences", required=True, type=Path, help="folder of NPZ shards")
    parser.add_argument("--warm-start", type=Path, help="weights to begin with: a folder, .safetensors or .pth")
    parser.add_argument("--checkpoints", required=True, type=Path, help="folder that outlives a killed run")
    parser.add_argument("--model", required=True, type=Path, help="output folder")
    parser.add_argument("--history", required=True, type=Path, help="output: losses and validation metrics, CSV")
    parser.add_argument("--training", required=True, type=Path, help="output: the training record, JSON")
    parser.add_argument("--profile", type=Path, help="folder for the profiler's files")
    args = parser.parse_args()
    name = f"{run_name(args.model.parents[2])} seed {args.seed}"
    PROGRESS.begin(f"{name}: loading the data and the model")
    run = load_run(args.config, RECOMMENDATION)
    hide_unused(run.adapter.method)
    keep_freed_memory()

    with imports():
        # The device first: libraries use CUDA as they are imported.
        device = choose_device(run.training.gpus)
        from frugal.recsys import training

    return training.train(args, run, name, script, device)
