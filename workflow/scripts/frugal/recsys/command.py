"""What the training scripts of both experiments do: from their arguments to a finished model."""

import argparse
import os
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path

from frugal.config.study import STAGES, plain
from frugal.errors import FrugalError
from frugal.files import atomic_path, exclusive, sha256_tree, write_json, write_text
from frugal.fingerprint import fingerprint
from frugal.hardware import choose_device, keep_freed_memory
from frugal.libraries import hide_unused, imports
from frugal.runs import load_run
from frugal.tracking import prepare

#: Settings that change how a run is watched, not what it learns: its checkpoints stay good.
WATCHING = ("deadline_minutes", "logging_steps", "report_to", "threads", "profile_steps")


def train(experiment: str, script: str, description: str) -> int | None:
    """Train one variant with one seed; continues from its checkpoint if it has one.

    Under torchrun every process comes through here; the first one writes.

    Returns:
        The process's exit code: None, or EXIT_DEADLINE where its time was up first.

    Raises:
        FrugalError: an input is broken, or the loss is no longer a number.
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
    run = load_run(args.config, experiment)
    hide_unused(run.adapter.method)
    keep_freed_memory()

    with imports():
        from frugal.recsys import training
        from frugal.recsys.adapters import add_adapter, save_trained
        from frugal.recsys.shards import read_split
        from frugal.recsys.warm_start import describe, read_weights, warm_start
        from frugal.training import EXIT_DEADLINE, DeadlineReached

    choose_device(run.training.gpus)
    split = read_split(args.sequences, run.data.fraction)
    model = training.build_model(run.model, split.item_count, split.user_count, args.seed)
    report = None
    if args.warm_start:
        report = warm_start(model, read_weights(args.warm_start))
        print(describe(report), file=sys.stderr)
        if run.adapter.method != "none" and (report["skipped"] or report["missing"]):
            raise FrugalError(
                f"{args.warm_start}: does not fit this run's model, and an adapter leaves the rest as it is; give "
                "both variants the same model and data"
            )
    model = add_adapter(model, run.adapter, args.seed)

    # Other settings, data or code never continue from this run's checkpoints.
    settings = plain(run, STAGES[experiment]["training"])
    for key in WATCHING:
        settings["training"].pop(key)
    inputs = [args.sequences, *([args.warm_start] if args.warm_start else [])]
    key = fingerprint(script, [settings, args.seed, sha256_tree(inputs)])
    name = f"{experiment}/{args.model.parents[2].name} seed {args.seed}"
    first = int(os.environ.get("RANK", 0)) == 0
    prepare(run.training.report_to, args.history.parent, args.checkpoints / key)
    try:
        with exclusive(args.checkpoints, "training") if first else nullcontext():
            trainer, record = training.train_recommender(
                model, split, run, args.seed, args.checkpoints / key, name, args.profile
            )
    except DeadlineReached as reached:
        print(f"{reached}; run again to continue", file=sys.stderr)
        return EXIT_DEADLINE
    if not first:
        return None
    with atomic_path(args.model) as temporary:
        save_trained(trainer.model, run.adapter, temporary)
    write_text(args.history, training.history_csv(trainer))
    write_json(args.training, record | {"warm_start": report})
    shutil.rmtree(args.checkpoints, ignore_errors=True)
    return None
