"""Train one variant's adapter on its preference pairs; continues from its checkpoint if it has one."""

import argparse
import shutil
import sys
from pathlib import Path

from frugal.config.study import STAGES, plain
from frugal.data.preference import read_jsonl
from frugal.errors import run_script
from frugal.files import exclusive, sha256_file, sha256_tree, write_json, write_text
from frugal.fingerprint import fingerprint
from frugal.hardware import choose_device, keep_freed_memory
from frugal.llm.command import WATCHING, save_adapter
from frugal.runs import load_run


def main() -> int | None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="the run's config.yaml")
    parser.add_argument("--base-model", required=True, type=Path, help="folder of the base model")
    parser.add_argument("--train", required=True, type=Path, help="train.jsonl")
    parser.add_argument("--checkpoints", required=True, type=Path, help="folder that outlives a killed run")
    parser.add_argument("--adapter", required=True, type=Path, help="output folder")
    parser.add_argument("--history", required=True, type=Path, help="output: the loss history, CSV")
    parser.add_argument("--training", required=True, type=Path, help="output: the training record, JSON")
    args = parser.parse_args()
    keep_freed_memory()
    run = load_run(args.config, "movie_preference")
    records = read_jsonl(args.train)
    # Another model, other settings, data or code never continue from this run's checkpoints.
    settings = plain(run, STAGES["movie_preference"]["training"])
    for key in WATCHING:
        settings["training"].pop(key)
    key = fingerprint(__file__, [settings, sha256_file(args.train), sha256_tree([args.base_model])])

    if run.backend == "unsloth":
        import unsloth  # noqa: F401  (patches trl, peft and transformers, so it comes before them)

    from frugal.llm.prompts import encode_example
    from frugal.llm.training import history_csv, load_for_run, train_adapter
    from frugal.training import EXIT_DEADLINE, DeadlineReached

    model, tokenizer, lora = load_for_run(args.base_model, run, choose_device(run.training.gpus))
    try:
        with exclusive(args.checkpoints, "training"):
            trainer, record = train_adapter(
                model,
                tokenizer,
                [encode_example(tokenizer, record, run.model.max_length) for record in records],
                lora,
                run.training,
                run.model,
                run.seed,
                args.checkpoints / key,
                f"movie_preference/{args.adapter.parent.name}",
                packed=run.backend == "transformers",
            )
    except DeadlineReached as reached:
        print(f"deadline: saved at {reached}; run again to continue", file=sys.stderr)
        return EXIT_DEADLINE
    save_adapter(trainer.model, tokenizer, args.adapter)
    write_text(args.history, history_csv(trainer))
    write_json(args.training, record)
    shutil.rmtree(args.checkpoints, ignore_errors=True)
    return None


if __name__ == "__main__":
    run_script(main)
