"""Train an adapter on a frozen language model; read it from top to bottom.

Both kinds of experiments with language models train here: `language_modeling` on packed blocks of text, and
`preference` on prompts with answers. The rows of a batch are concatenated without padding, and the Hugging Face trainer
(TRL's SFTTrainer, see `trainer.py`) does the rest. A killed run continues from its checkpoint and ends with the same
weights as an uninterrupted one.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from frugal.config.base import plain
from frugal.config.llm import AdapterRun
from frugal.errors import FrugalError
from frugal.files import atomic_path, exclusive, read_json, sha256_file, sha256_tree, write_json, write_text
from frugal.fingerprint import fingerprint
from frugal.kinds import KINDS, LANGUAGE_MODELING, PREFERENCE
from frugal.llm import kernels
from frugal.llm.positions import check_lengths, lengths
from frugal.llm.unsloth_backend import import_unsloth
from frugal.run.device import resolve_compute_dtype
from frugal.run.hardware import (
    choose_device,
    describe_hardware,
    keep_freed_memory,
    package_versions,
    peak_device_mb,
    peak_rss_mb,
)
from frugal.run.libraries import hide_bitsandbytes, imports
from frugal.run.outputs import load_run, run_name
from frugal.run.progress import PROGRESS
from frugal.run.tracking import prepare

#: Settings that change how a run is observed, not its weights: with others its checkpoints stay valid.
OBSERVATION = ("deadline_minutes", "keep_freed_memory", "save_steps", "logging_steps", "report_to")
#: Columns of history.csv.
HISTORY = ["step", "epoch", "loss", "eval_loss", "learning_rate", "grad_norm", "num_input_tokens_seen", "seconds"]
HISTORY += ["rss_mb", "device_mb", "device_utilization"]


def train(
    script: str,
    description: str,
    read: Callable[[Path], list[dict[str, Any]]],
    encode: Callable[[Any, list[dict[str, Any]], int, Path], tuple[list[dict[str, list[int]]], dict]] | None = None,
) -> int | None:
    """Train the adapter of one variant: from the command line to the files.

    Under torchrun every process runs this function; the first one writes.

    Args:
        script: the calling script; a change of its code, or of the library's, invalidates checkpoints.
        description: for --help.
        read: reads a file of training data: packed blocks or, with ``encode``, records.
        encode: turns records into rows of tokens, and into counts for the training record; from the tokenizer, the
            records, model.max_length and the records' file. None: the records are packed blocks, and the option
            --validation names more of them.

    Returns:
        The process's exit code: None, or EXIT_DEADLINE if its time was up first.

    Raises:
        FrugalError: an input is broken, or the loss is not a number.
    """
    # Arguments
    on_blocks = encode is None
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", required=True, help="the run's settings/training.yaml")
    parser.add_argument("--base-model", required=True, type=Path, help="folder of the base model")
    parser.add_argument("--train", required=True, type=Path, help="train.parquet or train.jsonl")
    if on_blocks:
        parser.add_argument("--validation", required=True, type=Path, help="validation.parquet")
        parser.add_argument("--run", type=Path, help="the run's config.yaml; its lengths have to fit the base model")
    parser.add_argument("--checkpoints", required=True, type=Path, help="folder that outlives a killed run")
    parser.add_argument("--adapter", required=True, type=Path, help="output folder")
    parser.add_argument("--history", required=True, type=Path, help="output: losses, CSV")
    parser.add_argument("--training", required=True, type=Path, help="output: the training record, JSON")
    args = parser.parse_args()
    name = run_name(args.adapter.parent)
    PROGRESS.begin(f"{name}: loading the model")

    # Settings
    run = load_run(args.config, PREFERENCE, LANGUAGE_MODELING)
    if not on_blocks:
        check_lengths(args.base_model, lengths(run))
    elif args.run:  # beside `config`, which does not have the lengths of blocks and of the evaluation
        check_lengths(args.base_model, lengths(load_run(args.run, LANGUAGE_MODELING)))
    fused = kernels.enabled()
    keep_freed_memory(run.training.keep_freed_memory)

    # Data
    rows = read(args.train)
    validation = read(args.validation) if on_blocks else None
    longest = max((len(row["input_ids"]) for row in rows), default=0) if on_blocks else 0
    if run.backend == "unsloth" and longest > run.model.max_length:
        raise FrugalError(
            f"model.max_length is {run.model.max_length}, and backend 'unsloth' would cut blocks of {longest} tokens: "
            "set it to corpus.block_length"
        )

    # Device and libraries. The device first: libraries use CUDA as they are imported. unsloth patches trl, peft and
    # transformers, so it is imported before them.
    with imports():
        device = choose_device(run.training.gpus)
    if run.backend == "unsloth":
        import_unsloth(args.checkpoints / "unsloth")
    else:
        hide_bitsandbytes(run.model.quantization, run.training.optim)
    with imports():
        import frugal.llm.measurement  # noqa: F401  (and with it the trainer, for train_adapter)
        from frugal.llm.loading import load_base_model, load_tokenizer
        from frugal.run.checkpoints import EXIT_DEADLINE, DeadlineReached, write_history

    # Numbers
    run, choice = resolve_compute_dtype(run, device)
    PROGRESS.say(f"{name}: computes in {choice}{'' if fused else f', without kernels ({kernels.SWITCH}=off)'}")

    # Checkpoints: a run with another model, other settings, data or code never continues from them.
    settings = plain(run, KINDS[run.kind].stages["training"])
    for key in OBSERVATION:
        settings["training"].pop(key)
    inputs = [settings, sha256_file(args.train), sha256_tree([args.base_model], kept=True), fused]
    checkpoints = args.checkpoints / fingerprint(script, inputs)

    # Model
    if run.backend == "unsloth":
        from frugal.llm.unsloth_backend import load_for_training

        model, tokenizer = load_for_training(args.base_model, run)
    else:
        model, tokenizer = load_base_model(args.base_model, run.model, device), load_tokenizer(args.base_model)
    counts: dict[str, int] = {}
    if encode is not None:
        rows, counts = encode(tokenizer, rows, run.model.max_length, args.train)

    # Training
    first = int(os.environ.get("RANK", 0)) == 0
    prepare(run.training.report_to, args.history.parent, checkpoints)
    try:
        with exclusive(args.checkpoints, "training") if first else nullcontext():
            trainer, record = train_adapter(model, tokenizer, rows, run, checkpoints, name, validation)
    except DeadlineReached as reached:
        print(f"{reached}; run again to continue", file=sys.stderr)
        return EXIT_DEADLINE
    if not first:
        return None

    # Output files
    save_adapter(trainer.model, tokenizer, args.adapter)
    losses = (entry for entry in trainer.state.log_history if "loss" in entry or "eval_loss" in entry)
    write_text(args.history, write_history(losses, HISTORY))
    if on_blocks:
        record["blocks"] = record.pop("examples")
    record |= counts | {"compute_dtype_reason": choice.reason} | ({} if fused else {"kernels": "off"})
    write_json(args.training, record)
    shutil.rmtree(args.checkpoints, ignore_errors=True)
    return None


def train_adapter(
    model,
    tokenizer,
    rows: list[dict[str, list[int]]],
    run: AdapterRun,
    checkpoints: Path,
    name: str,
    validation: list[dict[str, list[int]]] | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Train an adapter on ``model``, from the last good checkpoint in ``checkpoints`` if there is one.

    Args:
        model: a causal language model, frozen; from unsloth, it already has its adapter.
        rows: as `frugal.llm.packed.collate` reads them.
        checkpoints: a folder for this run alone, kept between attempts.
        name: for logs and trackers.
        validation: rows whose loss is measured during training.

    Returns:
        The trainer, and the training record: steps, seconds, speed, memory, losses.

    Raises:
        DeadlineReached: the run's time was up first; a checkpoint holds the state.
        FrugalError: no row has a loss token, the model's forward pass is not the library's, or the loss is not a
            number.
    """
    from frugal.llm.adapter_check import training_loss
    from frugal.llm.forward_check import check_training
    from frugal.llm.measurement import (
        adapted_modules,
        adapter_mb,
        count_loss_tokens,
        linear_modules,
        parameter_counts,
        training_flops,
    )
    from frugal.llm.trainer import MemoryHistory, make_trainer, sft_config, training_mode
    from frugal.run.checkpoints import Progress, Seal, train_to_the_end
    from frugal.run.heartbeat import Heartbeat
    from frugal.run.matmul_peak import native_peak_flops

    # Rows. One without a loss token, such as a block of documents of one token each, teaches nothing.
    given, loss_tokens = len(rows), [count_loss_tokens([row]) for row in rows]
    rows = [row for row, count in zip(rows, loss_tokens, strict=True) if count]
    if len(rows) < given:
        PROGRESS.say(f"{name}: {given - len(rows)} of {given} training rows have no loss token and are left out")
    if not rows or (validation and not count_loss_tokens(validation)):
        part = "validation" if rows else "training"
        raise FrugalError(f"{name}: no {part} row has a loss token: each document gives one token at most; add text")

    # Trainer
    training, packed = run.training, run.backend == "transformers"
    progress = Progress(name, training.deadline_minutes)
    callbacks = [progress, Seal(), MemoryHistory(), Heartbeat()]
    arguments = sft_config(run, checkpoints, name, evaluate=bool(validation))
    lora = run.lora if packed else None
    trainer = make_trainer(model, tokenizer, rows, validation, lora, arguments, callbacks, packed)

    # Forward pass
    if packed:
        device = trainer.args.device.type
        check_training(trainer.model, run.model, rows, lambda: training_mode(trainer, run), device)

    # Loop
    train_to_the_end(trainer, progress, checkpoints, training_mode(trainer, run))

    # Loss on a fixed text, which the saved adapter has to give again
    with training_mode(trainer, run):
        check = training_loss(trainer, rows, packed)

    # Record
    history, tokens = trainer.state.log_history, trainer.state.num_input_tokens_seen
    losses = [entry["loss"] for entry in history if "loss" in entry]
    eval_losses = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    seconds = progress.seconds
    training_seconds = seconds - sum(entry.get("eval_runtime", 0) for entry in history)
    # Before the matmul peak is measured, which takes memory too.
    peak_rss, peak_device = peak_rss_mb(), peak_device_mb()
    loss_share = sum(loss_tokens) / sum(len(row["input_ids"]) for row in rows)
    peak_flops = native_peak_flops(run.model.compute_dtype, "cpu" if training.gpus == 0 else "cuda")
    base, processes = trainer.model.get_base_model(), trainer.args.world_size
    flops = training_flops(base, tokens, int(tokens * loss_share)) / processes
    return trainer, {
        "steps": trainer.state.global_step,
        "examples": len(rows),
        "examples_without_loss": given - len(rows),
        "tokens": tokens,
        "seconds": round(seconds, 3),
        "tokens_per_second": round(tokens / training_seconds, 2),
        "device": trainer.args.device.type,
        "compute_dtype": run.model.compute_dtype,
        **parameter_counts(trainer.model),
        "adapted_modules": adapted_modules(trainer.model),
        "linear_modules": linear_modules(base),
        "adapter_mb": adapter_mb(trainer.model),
        "per_device_train_batch_size": training.per_device_train_batch_size,
        "gradient_accumulation_steps": training.gradient_accumulation_steps,
        "effective_batch_size": trainer.args.train_batch_size * training.gradient_accumulation_steps * processes,
        "peak_rss_mb": round(peak_rss, 1),
        "peak_device_mb": peak_device,
        "matmul_peak_share": round(flops / training_seconds / peak_flops, 4),
        "final_loss": losses[-1],
        "final_eval_loss": eval_losses[-1] if eval_losses else None,
        "best_eval_loss": min(eval_losses, default=None),
        "check": check,
        "hardware": describe_hardware(),
        "versions": package_versions(),
    }


def save_adapter(model, tokenizer, folder: Path) -> None:
    """Write the adapter and its tokenizer; atomically."""
    with atomic_path(folder) as temporary:
        model.save_pretrained(temporary, safe_serialization=True)
        tokenizer.save_pretrained(temporary)
        (temporary / "README.md").unlink(missing_ok=True)  # an empty form; the model card is made from the results
        config = read_json(temporary / "adapter_config.json")
        # PEFT keeps a set, in another order each time.
        write_json(temporary / "adapter_config.json", {**config, "target_modules": sorted(config["target_modules"])})
