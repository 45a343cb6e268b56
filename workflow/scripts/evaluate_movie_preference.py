"""Score one run's test pairs in both orders, and answer some of them in free text."""

import argparse
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from frugal.config.movie_preference import MoviePreferenceRun
from frugal.data.preference import read_jsonl, to_jsonl, with_options
from frugal.errors import run_script
from frugal.files import atomic_path, read_json, sha256_file, sha256_tree, write_text
from frugal.hardware import choose_device, keep_freed_memory, peak_device_mb, peak_rss_mb, provenance
from frugal.metrics import preference_metrics, summarise
from frugal.runs import hash_inputs, load_run, write_metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="the run's config.yaml")
    parser.add_argument("--base-model", required=True, type=Path)
    parser.add_argument("--adapter", type=Path, help="the trained adapter; none scores the base model")
    parser.add_argument("--training", type=Path, help="the training record, with --adapter")
    parser.add_argument("--test", required=True, type=Path, help="test.jsonl")
    parser.add_argument("--metrics", required=True, type=Path, help="output: metrics.json")
    parser.add_argument("--predictions", required=True, type=Path, help="output: one row a pair, Parquet")
    parser.add_argument("--examples", required=True, type=Path, help="output: free answers, JSONL")
    args = parser.parse_args()
    keep_freed_memory()
    run = load_run(args.config, "movie_preference")
    records = read_jsonl(args.test)

    from frugal.llm.loading import (
        load_adapter,
        load_base_model,
        load_tokenizer,
        mixed_precision,
    )

    device = choose_device(run.training.gpus)
    model, tokenizer = load_base_model(args.base_model, run.model, device), load_tokenizer(args.base_model)
    footprint = model.get_memory_footprint() / 2**20
    model = load_adapter(model, args.adapter) if args.adapter else model.eval()
    with mixed_precision(model, run.model, device):
        start = time.perf_counter()
        table = score(model, tokenizer, records, run)
        scoring_seconds = time.perf_counter() - start
        answers, seconds_per_answer = answer(model, tokenizer, records[: run.evaluation.generated_examples], run)

    metric = partial(preference_metrics, bins=run.evaluation.calibration_bins)
    metrics, intervals = summarise(table, metric, run.evaluation.bootstrap_samples, run.seed)
    metrics |= {"answer_mass": float(table["answer_mass"].mean())} if "answer_mass" in table else {}
    if answers:
        metrics["invalid_answer_rate"] = float(np.mean([not row["valid"] for row in answers]))
        metrics["seconds_per_recommendation"] = round(seconds_per_answer, 4)
    metrics |= {
        "seconds_per_scored_pair": round(scoring_seconds / len(records), 4),
        "base_model_mb": round(footprint, 1),
        "peak_rss_mb": round(peak_rss_mb(), 1),
    }
    if (device_mb := peak_device_mb()) is not None and run.training.gpus:
        metrics["peak_device_mb"] = round(device_mb, 1)
    inputs = hash_inputs(test=args.test, config=args.config) | {"base_model": sha256_tree([args.base_model])}
    if args.adapter:
        inputs["adapter"] = sha256_file(args.adapter / "adapter_model.safetensors")
    with atomic_path(args.predictions) as temporary:
        table.to_parquet(temporary, index=False)
    write_text(args.examples, to_jsonl(answers))
    write_metrics(
        args.metrics,
        metrics,
        intervals,
        read_json(args.training) if args.training else None,
        provenance(run.seed, inputs),
    )
    name = f"movie_preference/{args.metrics.parent.name}"
    print(f"{name}: accuracy {metrics['accuracy']:.3f} on {len(records)} pairs in both orders", file=sys.stderr)


def score(model, tokenizer, records: list[dict], run: MoviePreferenceRun) -> pd.DataFrame:
    """One row a pair: user, kind, P(A) where the liked film is A and where it is B, mass on both answers."""
    from frugal.llm.prompts import prompt
    from frugal.llm.scoring import choice_log_probabilities, continuation_log_probabilities

    batch_size = run.evaluation.batch_size
    table = pd.DataFrame([{key: row[key] for key in ("user", "kind", "liked", "other")} for row in records])
    if run.pairs.format == "next_film":
        # Titles are scored by themselves: there are no options, so no order and no position bias.
        prompts = [prompt(record) for record in records for _ in range(2)]
        titles = [record[key] for record in records for key in ("liked_title", "other_title")]
        scores = continuation_log_probabilities(model, tokenizer, prompts, titles, batch_size).view(-1, 2)
        preferred = scores.softmax(-1)[:, 0].double().numpy()
        return table.assign(p_liked_a=preferred, p_liked_b=1 - preferred)
    prompts = [prompt(with_options(record, option)) for record in records for option in "AB"]
    scores = choice_log_probabilities(model, tokenizer, prompts, batch_size).view(-1, 2, 2)
    p_a = scores.softmax(-1)[..., 0].double().numpy()
    mass = scores.exp().sum(-1).mean(-1).double().numpy()
    return table.assign(p_liked_a=p_a[:, 0], p_liked_b=p_a[:, 1], answer_mass=mass)


def answer(model, tokenizer, records: list[dict], run: MoviePreferenceRun) -> tuple[list[dict], float]:
    """Free answers: what was asked, what was said, whether it is an answer and whether it is right."""
    from frugal.llm.prompts import parse_answer, prompt
    from frugal.llm.scoring import generate

    texts, seconds = generate(
        model,
        tokenizer,
        [prompt(r) for r in records],
        run.evaluation.max_new_tokens,
        run.evaluation.batch_size,
    )
    rows = []
    for record, text in zip(records, texts, strict=True):
        if run.pairs.format == "next_film":
            valid, correct = bool(text), text == record["liked_title"]
        else:
            choice = parse_answer(text)
            valid, correct = choice is not None, choice == record["liked_option"]
        rows.append(
            {
                "kind": record["kind"],
                "input": record["input"],
                "expected": record["output"],
                "answer": text,
                "valid": valid,
                "correct": correct,
            }
        )
    return rows, seconds


if __name__ == "__main__":
    run_script(main)
