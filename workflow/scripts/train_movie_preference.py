"""Train one variant's adapter on its preference pairs; continues from its checkpoint if it has one."""

import argparse
import shutil
import sys
from pathlib import Path

from frugal.config.study import STAGES, plain
from frugal.data.preference import read_jsonl
from frugal.errors import run_script
from frugal.files import atomic_path, exclusive, sha256_file, sha256_tree, write_json, write_text
from frugal.fingerprint import fingerprint
from frugal.hardware import choose_device, keep_freed_memory
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
    for key in ("deadline_minutes", "save_steps", "logging_steps", "report_to"):
        settings["training"].pop(key)  # they change how a run is watched, not what it learns
    key = fingerprint(__file__, [settings, sha256_file(args.train), sha256_tree([args.base_model])])

    if run.backend == "unsloth":
        import unsloth  # noqa: F401  (patches trl, peft and transformers, so it comes before them)

    from frugal.llm import training
    from frugal.llm.loading import load_base_model, load_tokenizer
    from frugal.llm.prompts import encode_example
    from frugal.training import EXIT_DEADLINE, DeadlineReached

    device = choose_device(run.training.gpus)
    if run.backend == "unsloth":
        from frugal.llm.unsloth_backend import load_for_training

        model, tokenizer = load_for_training(
            str(args.base_model), run.model, run.lora, run.training.gradient_checkpointing, run.seed
        )
    else:
        model, tokenizer = (
            load_base_model(args.base_model, run.model, device),
            load_tokenizer(args.base_model),
        )
    try:
        with exclusive(args.checkpoints, "training"):
            trainer, record = training.train_adapter(
                model,
                tokenizer,
                [encode_example(tokenizer, record, run.model.max_length) for record in records],
                lora=run.lora if run.backend == "transformers" else None,
                training=run.training,
                model_settings=run.model,
                seed=run.seed,
                checkpoints=args.checkpoints / key,
                run_name=f"movie_preference/{args.adapter.parent.name}",
            )
    except DeadlineReached as reached:
        print(f"deadline: saved at {reached}; run again to continue", file=sys.stderr)
        return EXIT_DEADLINE
    with atomic_path(args.adapter) as temporary:
        trainer.model.save_pretrained(temporary, safe_serialization=True)
        tokenizer.save_pretrained(temporary)
        (temporary / "README.md").unlink(missing_ok=True)  # an empty form; the model card is made from the results
    write_text(args.history, training.history_csv(trainer))
    write_json(args.training, record)
    shutil.rmtree(args.checkpoints, ignore_errors=True)
    return None


if __name__ == "__main__":
    run_script(main)
