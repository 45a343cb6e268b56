"""What the training scripts of all language-model experiments do: from their arguments to a finished adapter."""

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from frugal.config.study import STAGES, plain
from frugal.data.blocks import BLOCKS
from frugal.data.prepared import read_columns
from frugal.errors import FrugalError
from frugal.files import atomic_path, exclusive, read_json, sha256_file, sha256_tree, write_json, write_text
from frugal.fingerprint import fingerprint
from frugal.hardware import choose_device, keep_freed_memory
from frugal.libraries import hide_bitsandbytes, imports
from frugal.runs import load_run
from frugal.tracking import prepare

#: Settings that change how a run is watched, not what it learns: its checkpoints stay good.
WATCHING = ("deadline_minutes", "keep_freed_memory", "save_steps", "logging_steps", "report_to")


def read_blocks(path: Path) -> list[dict[str, list[int]]]:
    """Packed blocks: input_ids and segment_lengths of each.

    Raises:
        FrugalError: the file cannot be read, or a block is empty or not made of its segments.
    """
    blocks = read_columns(path, BLOCKS, "pack_blocks").to_pylist()
    for number, block in enumerate(blocks):
        tokens, lengths = block["input_ids"], block["segment_lengths"]
        if not tokens or min(tokens) < 0 or min(lengths, default=0) < 1 or sum(lengths) != len(tokens):
            raise FrugalError(f"{path}: block {number} is damaged; make it again with the rule pack_blocks")
    return blocks


def train(
    experiment: str,
    script: str,
    description: str,
    read: Callable[[Path], list[dict[str, Any]]],
    encode: Callable[[Any, dict[str, Any], int], dict[str, list[int]]] | None = None,
) -> int | None:
    """Train one variant's adapter; continues from its checkpoint if it has one.

    Under torchrun every process comes through here; the first one writes.

    Args:
        experiment: whose settings --config holds.
        script: the calling script; checkpoints of other code, its own or the library's, are not continued.
        description: for --help.
        read: from a file of training data to what it holds: packed blocks or, with ``encode``, records.
        encode: from the tokenizer, a record and model.max_length to a row of tokens. Without it there is the option
            --validation: blocks are rows of tokens already, and some of them are kept for validation.

    Returns:
        The process's exit code: None, or EXIT_DEADLINE where its time was up first.

    Raises:
        FrugalError: an input is broken, or the loss is no longer a number.
    """
    on_blocks = encode is None
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", required=True, help="the run's settings/training.yaml")
    parser.add_argument("--base-model", required=True, type=Path, help="folder of the base model")
    parser.add_argument("--train", required=True, type=Path, help="train.parquet or train.jsonl")
    if on_blocks:
        parser.add_argument("--validation", required=True, type=Path, help="validation.parquet")
    parser.add_argument("--checkpoints", required=True, type=Path, help="folder that outlives a killed run")
    parser.add_argument("--adapter", required=True, type=Path, help="output folder")
    parser.add_argument("--history", required=True, type=Path, help="output: losses, CSV")
    parser.add_argument("--training", required=True, type=Path, help="output: the training record, JSON")
    args = parser.parse_args()
    run = load_run(args.config, experiment)
    keep_freed_memory(run.training.keep_freed_memory)
    rows = read(args.train)
    validation = read(args.validation) if on_blocks else None
    # Another model, other settings, data or code never continue from this run's checkpoints.
    settings = plain(run, STAGES[experiment]["training"])
    for key in WATCHING:
        settings["training"].pop(key)
    key = fingerprint(script, [settings, sha256_file(args.train), sha256_tree([args.base_model])])

    if run.backend == "unsloth":
        import unsloth  # noqa: F401  (patches trl, peft and transformers, so it comes before them)
    else:
        hide_bitsandbytes(run.model.quantization, run.training.optim)

    with imports():
        from frugal.llm.training import history_csv, load_for_run, train_adapter
        from frugal.training import EXIT_DEADLINE, DeadlineReached

    model, tokenizer, lora = load_for_run(args.base_model, run, choose_device(run.training.gpus))
    if not on_blocks:
        rows = [encode(tokenizer, record, run.model.max_length) for record in rows]
    first = int(os.environ.get("RANK", 0)) == 0
    prepare(run.training.report_to, args.history.parent, args.checkpoints / key)
    try:
        with exclusive(args.checkpoints, "training") if first else nullcontext():
            trainer, record = train_adapter(
                model,
                tokenizer,
                rows,
                lora,
                run.training,
                run.model,
                run.seed,
                args.checkpoints / key,
                f"{experiment}/{args.adapter.parent.name}",
                validation=validation,
                packed=run.backend == "transformers",
            )
    except DeadlineReached as reached:
        print(f"{reached}; run again to continue", file=sys.stderr)
        return EXIT_DEADLINE
    if not first:
        return None
    save_adapter(trainer.model, tokenizer, args.adapter)
    write_text(args.history, history_csv(trainer))
    if on_blocks:
        record["blocks"] = record.pop("examples")
    write_json(args.training, record)
    shutil.rmtree(args.checkpoints, ignore_errors=True)
    return None


def save_adapter(model, tokenizer, folder: Path) -> None:
    """Write the adapter and its tokenizer; atomically."""
    with atomic_path(folder) as temporary:
        model.save_pretrained(temporary, safe_serialization=True)
        tokenizer.save_pretrained(temporary)
        (temporary / "README.md").unlink(missing_ok=True)  # an empty form; the model card is made from the results
        config = read_json(temporary / "adapter_config.json")
        # PEFT keeps a set, in another order each time.
        write_json(temporary / "adapter_config.json", {**config, "target_modules": sorted(config["target_modules"])})
