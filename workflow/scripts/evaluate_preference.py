"""Score one run's test pairs in both orders, and answer some of them in free text."""

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from frugal.config.preference import PreferenceRun
from frugal.errors import run_script
from frugal.files import atomic_path, write_text
from frugal.kinds import PREFERENCE
from frugal.llm.evaluation import (
    choose_compute_dtype,
    evaluation_parser,
    load_for_evaluation,
    memory_metrics,
    write_evaluation,
)
from frugal.llm.positions import check_lengths
from frugal.preference.metrics import metrics_with_intervals
from frugal.preference.prompts import fit_records
from frugal.preference.records import CHOICE, PAIR, TITLES, read_jsonl, to_jsonl, with_options
from frugal.run.hardware import choose_device, keep_freed_memory
from frugal.run.libraries import hide_bitsandbytes, imports
from frugal.run.outputs import load_run, run_name


def main() -> None:
    parser = evaluation_parser(__doc__)
    parser.add_argument("--predictions", required=True, type=Path, help="output: one row a pair, Parquet")
    parser.add_argument("--examples", required=True, type=Path, help="output: free answers, JSONL")
    args = parser.parse_args()
    keep_freed_memory()
    run = load_run(args.config, PREFERENCE)
    check_lengths(args.base_model, {"model.max_length": run.model.max_length})
    records = read_jsonl(args.test, PAIR, TITLES if run.pairs.format == "next_item" else CHOICE)
    hide_bitsandbytes(run.model.quantization)

    with imports():
        # The device first: libraries use CUDA as they are imported.
        device = choose_device(min(1, run.training.gpus))
        from frugal.llm.adapter_check import check_adapter
        from frugal.llm.forward_check import check_scoring
        from frugal.llm.loading import mixed_precision
        from frugal.preference.prompts import prompt
        from frugal.preference.scoring import prompt_logits

    run, choice = choose_compute_dtype(args, run, device)
    model, tokenizer, base_model_mb = load_for_evaluation(args.base_model, args.adapter, run, device)
    check = check_adapter(model, run.model, args.adapter, args.training)
    records, shortened = fit_records(tokenizer, records, run.model.max_length, args.test)
    with mixed_precision(model, run.model, device):
        check_scoring(model, run.model, [tokenizer(prompt(records[0]))["input_ids"]], prompt_logits)
        start = time.perf_counter()
        table = score(model, tokenizer, records, run)
        scoring_seconds = time.perf_counter() - start
        answers, seconds_per_answer = answer(model, tokenizer, records[: run.evaluation.generated_examples], run)

    settings = run.evaluation
    metrics, intervals = metrics_with_intervals(
        table, settings.bootstrap_samples, run.seed, bins=settings.calibration_bins
    )
    metrics |= {"answer_mass": float(table["answer_mass"].mean())} if "answer_mass" in table else {}
    if answers:
        metrics["invalid_answer_rate"] = float(np.mean([not row["valid"] for row in answers]))
        metrics["seconds_per_recommendation"] = round(seconds_per_answer, 4)
    metrics["shortened_histories"] = shortened
    metrics["seconds_per_scored_pair"] = round(scoring_seconds / len(records), 4)
    metrics |= memory_metrics(base_model_mb, run.training.gpus)
    with atomic_path(args.predictions) as temporary:
        table.to_parquet(temporary, index=False)
    write_text(args.examples, to_jsonl(answers))
    write_evaluation(args, run, choice, metrics, intervals, check)
    name = run_name(args.metrics.parent)
    print(f"{name}: accuracy {metrics['accuracy']:.3f} on {len(records)} pairs in both orders", file=sys.stderr)


def score(model, tokenizer, records: list[dict], run: PreferenceRun) -> pd.DataFrame:
    """One row a pair: user, kind, P(A) where the liked item is A and where it is B, mass on both answers."""
    from frugal.preference.prompts import answers, prompt
    from frugal.preference.scoring import choice_log_probabilities, continuation_log_probabilities

    batch_size = run.evaluation.batch_size
    table = pd.DataFrame([{key: row[key] for key in ("user", "kind", "liked", "other")} for row in records])
    if run.pairs.format == "next_item":
        # Titles are scored by themselves: there are no options, so no order and no position bias.
        prompts = [prompt(record) for record in records for _ in range(2)]
        titles = [record[key] for record in records for key in ("liked_title", "other_title")]
        scores = continuation_log_probabilities(model, tokenizer, prompts, titles, batch_size, alike=2).view(-1, 2)
        preferred = scores.softmax(-1)[:, 0].double().numpy()
        return table.assign(p_liked_a=preferred, p_liked_b=1 - preferred)
    prompts = [prompt(with_options(record, option)) for record in records for option in "AB"]
    scores = choice_log_probabilities(model, tokenizer, prompts, answers(run), batch_size, alike=2).view(-1, 2, 2)
    p_a = scores.softmax(-1)[..., 0].double().numpy()
    mass = scores.exp().sum(-1).mean(-1).double().numpy()
    return table.assign(p_liked_a=p_a[:, 0], p_liked_b=p_a[:, 1], answer_mass=mass)


def answer(model, tokenizer, records: list[dict], run: PreferenceRun) -> tuple[list[dict], float]:
    """Free answers: what was asked, what was said, whether it is an answer and whether it is right."""
    from frugal.preference.prompts import answers, parse_answer, prompt
    from frugal.preference.scoring import generate

    texts, seconds = generate(
        model,
        tokenizer,
        [prompt(r) for r in records],
        run.evaluation.max_new_tokens,
        run.evaluation.batch_size,
    )
    rows = []
    for record, text in zip(records, texts, strict=True):
        if run.pairs.format == "next_item":
            valid, correct = bool(text), text == record["liked_title"]
        else:
            choice = parse_answer(text, answers(run))
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
