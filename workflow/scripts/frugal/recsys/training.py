"""The training of a recommender from top to bottom: settings, data, model, trainer, loop, record.

`train` is the run of a training script, after `frugal.recsys.command` has read its arguments; `train_recommender` is
the training itself. The batches stand in batches.py, the networks in modeling.py and layers.py, the losses in
losses.py, validation in evaluation.py, and what is added to the Hugging Face trainer in trainer.py.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback

from frugal.config.base import plain
from frugal.config.recommendation import LossSettings, ModelSettings, RecommendationRun
from frugal.errors import FrugalError
from frugal.files import atomic_path, exclusive, sha256_tree, write_json, write_text
from frugal.fingerprint import fingerprint
from frugal.kinds import RECOMMENDATION
from frugal.recsys.adapters import add_adapter, save_trained, unwrap
from frugal.recsys.batches import Batches, target_counts
from frugal.recsys.catalogue import read_catalogue, write_catalogue
from frugal.recsys.histories import Split
from frugal.recsys.losses import LOSSES, Loss
from frugal.recsys.modeling import MODELS, Recommender
from frugal.recsys.shards import read_split, shards_catalogue
from frugal.recsys.trainer import ADVICE, Profile, RecommenderTrainer, training_arguments
from frugal.recsys.training_record import history_csv, training_record
from frugal.recsys.warm_start import by_id, describe, read_weights, warm_start
from frugal.run.checkpoints import EXIT_DEADLINE, DeadlineReached, Progress, Seal, train_to_the_end
from frugal.run.device import Choice, choose_dtype, cpu_capabilities
from frugal.run.emulation import matmuls_in_float32
from frugal.run.heartbeat import Heartbeat
from frugal.run.progress import PROGRESS
from frugal.run.tracking import prepare

#: Settings that change how a run is observed, not what it learns: with others its checkpoints stay valid.
OBSERVATION = ("deadline_minutes", "logging_steps", "report_to", "threads", "profile_steps")


def train(args: argparse.Namespace, run: RecommendationRun, name: str, script: str, device: str) -> int | None:
    """Train one variant with one seed; continues from its checkpoint if it has one.

    Under torchrun every process runs this; the first one writes.

    Args:
        args: those of `frugal.recsys.command`.
        run: the settings as they were read.
        name: of the run, in messages.
        script: the file that was started; its code is part of the checkpoints' key.
        device: "cpu" or "cuda:0", see `frugal.run.hardware.choose_device`.

    Returns:
        The process's exit code: None, or EXIT_DEADLINE if the time limit came first.

    Raises:
        FrugalError: an input is broken, or the loss is not finite.
    """
    # Settings
    run, choice = resolve_precision(run, device)
    PROGRESS.say(f"{name}: computes in {choice}")

    # Data
    split = read_split(args.sequences, run.data.fraction)
    if run.model.positions == "time" and split.train.times is None:
        raise FrugalError(
            f"{args.sequences}: has no times, which model.positions 'time' read; make the shards with data.times true"
        )

    # Model
    model, report = build_model(run.model, split.item_count, split.user_count, args.seed), None
    catalogue = shards_catalogue(args.sequences, split.item_count)
    if args.warm_start:
        beside = args.warm_start if args.warm_start.is_dir() else args.warm_start.parent
        weights, rows = by_id(model, read_weights(args.warm_start), read_catalogue(beside), catalogue)
        report = warm_start(model, weights) | {"rows": rows}
        print(describe(report), file=sys.stderr)
        untrained = report["skipped"] or report["missing"] or any(counts["new"] for counts in rows.values())
        if run.adapter.method != "none" and untrained:
            raise FrugalError(
                f"{args.warm_start}: does not fit this run's model, and an adapter does not train the rest; give "
                "both variants the same model and data"
            )
    model = add_adapter(model, run.adapter, args.seed)

    # Trainer and loop. A run with other settings, data or code never continues from these checkpoints.
    settings = plain(run, RECOMMENDATION.stages["training"])
    for key in OBSERVATION:
        settings["training"].pop(key)
    inputs = [args.sequences, *([args.warm_start] if args.warm_start else [])]
    checkpoints = args.checkpoints / fingerprint(script, [settings, args.seed, sha256_tree(inputs)])
    first = int(os.environ.get("RANK", 0)) == 0
    prepare(run.training.report_to, args.history.parent, checkpoints)
    try:
        with exclusive(args.checkpoints, "training") if first else nullcontext():
            trainer, record = train_recommender(model, split, run, args.seed, checkpoints, name, args.profile)
    except DeadlineReached as reached:
        print(f"{reached}; run again to continue", file=sys.stderr)
        return EXIT_DEADLINE

    # Record
    if not first:
        return None
    with atomic_path(args.model) as temporary:
        save_trained(trainer.model, run.adapter, temporary)
        write_catalogue(temporary, catalogue)
    write_text(args.history, history_csv(trainer))
    write_json(args.training, record | {"compute_dtype_reason": choice.reason, "warm_start": report})
    shutil.rmtree(args.checkpoints, ignore_errors=True)
    return None


def resolve_precision(run: RecommendationRun, device: str) -> tuple[RecommendationRun, Choice]:
    """Replace 'auto' by the dtypes for ``device``; returns the run and the choice for the model's matmuls.

    On CPUs with native bfloat16 the loss uses it even where a narrow model does not: the catalogue is wide.
    """
    loss, choice = run.loss.precision, choose_dtype(run.training.precision, device, run.model.width)
    if loss == "auto":
        native = choice.dtype == "float32" and device == "cpu" and cpu_capabilities().native_bfloat16
        loss = "bfloat16" if native else choice.dtype
    changes = {
        "training": run.training.model_copy(update={"precision": choice.dtype}),
        "loss": run.loss.model_copy(update={"precision": loss}),
    }
    return run.model_copy(update=changes), choice


def build_model(settings: ModelSettings, item_count: int, user_count: int, seed: int) -> Recommender:
    """A model with random weights that depend on the seed."""
    torch.manual_seed(seed)
    model_class = MODELS[settings.architecture]
    known = set(model_class.config_class().to_dict())
    values = {key: value for key, value in settings.model_dump().items() if key in known}
    config = model_class.config_class(
        item_count=item_count,
        user_count=user_count,
        max_position_embeddings=settings.max_length,
        **values,
    )
    return model_class(config)


def make_batches(model: Recommender, split: Split, run: RecommendationRun, seed: int) -> Batches:
    """The batches of this process; torchrun sets its rank and the number of processes."""
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    return Batches(
        split.train,
        model.config.max_position_embeddings,
        run.training.per_device_train_batch_size * world_size,
        seed,
        causal=model.config.causal,
        mask_token_id=getattr(model.config, "mask_token_id", None),
        mask_probability=run.model.mask_probability,
        sorted_together=run.training.batches_sorted_together,
        rank=int(os.environ.get("RANK", 0)),
        world_size=world_size,
    )


def make_loss(model: Recommender, split: Split, settings: LossSettings) -> Loss:
    """The loss for the targets of the split's training part."""
    return LOSSES[settings.name](settings, target_counts(split.train, split.item_count, model.config.causal))


def train_recommender(
    model: torch.nn.Module,
    split: Split,
    run: RecommendationRun,
    seed: int,
    checkpoints: Path,
    run_name: str,
    profile: Path | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> tuple[RecommenderTrainer, dict[str, Any]]:
    """Train ``model`` on ``split``, from the last good checkpoint in ``checkpoints`` if there is one.

    Training stops after num_train_epochs, or when the validation NDCG@10 has not risen for
    early_stopping_patience validations; the weights of the best one are kept.

    Args:
        model: a recommender, with an adapter or without.
        run: its settings after `resolve_precision`.
        checkpoints: the run's folder, kept between attempts.
        profile: the folder for the profile of training.profile_steps steps.
        callbacks: added to those of every run.

    Returns:
        The trainer, whose model has the best weights, and the training record.

    Raises:
        DeadlineReached: the time limit came first; a checkpoint holds the state.
        FrugalError: there is no user to train on or to validate with, or the loss is not finite.
    """
    # Model: the loss and its dtype belong to the run, not to the saved configuration.
    training = run.training
    torch.set_num_threads(training.threads)
    recommender = unwrap(model)
    recommender.criterion = make_loss(recommender, split, run.loss)
    recommender.loss_dtype = getattr(torch, run.loss.precision)
    if training.gpus and training.precision != "float32":  # validations as fast as training
        recommender.scoring_dtype = getattr(torch, training.precision)
    if training.torch_compile:
        recommender.compile_blocks()

    # Data
    batches = make_batches(recommender, split, run, seed)
    if len(batches) == 0:
        raise FrugalError(f"{run_name}: no user has two items to learn from; use more data")
    if len(split.cases("validation", run.evaluation.history)) == 0:
        raise FrugalError(
            f"{run_name}: no user has a validation item; use more data, or users with longer histories"
            + " (all of them repeat earlier ones: set evaluation.history to 'keep')" * bool(split.repeats)
        )

    # Trainer
    steps_per_epoch = -(-len(batches) // training.gradient_accumulation_steps)
    progress = Progress(run_name, training.deadline_minutes, unit="target positions", advice=ADVICE)
    callbacks = [progress, Seal(), Heartbeat(), EarlyStoppingCallback(training.early_stopping_patience), *callbacks]
    if training.profile_steps and profile is not None:
        callbacks.append(Profile(profile, training.profile_steps))
    trainer = RecommenderTrainer(
        model=model,
        args=training_arguments(training, seed, checkpoints, run_name, steps_per_epoch),
        callbacks=callbacks,
        split=split,
        batches=batches,
        evaluation=run.evaluation,
    )
    trainer.remove_callback(PrinterCallback)  # `Progress` prints instead

    # Loop
    dtypes = () if training.torch_compile else (training.precision, run.loss.precision)
    mode = matmuls_in_float32(trainer.args.device.type, *dtypes)
    train_to_the_end(trainer, progress, checkpoints, mode)

    # Record
    return trainer, training_record(trainer, progress, seed, steps_per_epoch)
