"""Measure one run's perplexity on the test documents, and let it continue the prompts."""

import json
import sys
import time
from pathlib import Path

import pandas as pd

from frugal.data.prepared import read_columns
from frugal.errors import run_script
from frugal.files import atomic_path, write_text
from frugal.kinds import LANGUAGE_MODELING
from frugal.llm.blocks import TEXTS
from frugal.llm.evaluation import (
    choose_compute_dtype,
    evaluation_parser,
    load_for_evaluation,
    memory_metrics,
    write_evaluation,
)
from frugal.llm.positions import check_lengths
from frugal.run.hardware import choose_device, keep_freed_memory
from frugal.run.libraries import hide_bitsandbytes, imports
from frugal.run.outputs import load_run, run_name


def main() -> None:
    parser = evaluation_parser(__doc__)
    parser.add_argument("--documents", required=True, type=Path, help="output: one row a test document, Parquet")
    parser.add_argument("--answers", required=True, type=Path, help="output: one line a prompt, JSONL")
    args = parser.parse_args()
    keep_freed_memory()
    run = load_run(args.config, LANGUAGE_MODELING)
    check_lengths(args.base_model, {"evaluation.context_length": run.evaluation.context_length})
    test = read_test(args.test)
    hide_bitsandbytes(run.model.quantization)

    with imports():
        # The device first: libraries use CUDA as they are imported.
        device = choose_device(min(1, run.training.gpus))
        from frugal.llm.adapter_check import check_adapter
        from frugal.llm.answering import continue_prompts
        from frugal.llm.forward_check import check_scoring
        from frugal.llm.loading import mixed_precision
        from frugal.llm.perplexity import bos_token, intervals, metrics, score, window_logits

    run, choice = choose_compute_dtype(args, run, device)
    model, tokenizer, base_model_mb = load_for_evaluation(args.base_model, args.adapter, run, device)
    check = check_adapter(model, run.model, args.adapter, args.training)
    bos = bos_token(tokenizer, run.evaluation)
    with mixed_precision(model, run.model, device):
        check_scoring(model, run.model, test["input_ids"], window_logits)
        start = time.perf_counter()
        table = score(model, test, run.evaluation, tokenizer.pad_token_id, bos)
        seconds = time.perf_counter() - start
        answers = continue_prompts(model, tokenizer, run.prompts, run.seed)

    values = metrics(table) | memory_metrics(base_model_mb, run.training.gpus)
    values |= {"seconds": round(seconds, 3), "tokens_per_second": round(values["tokens"] / seconds, 2)}
    with atomic_path(args.documents) as temporary:
        table.to_parquet(temporary, index=False)
    write_text(args.answers, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in answers))
    bounds = intervals(table, run.evaluation.bootstrap_samples, run.seed)
    write_evaluation(args, run, choice, values, bounds, check)
    name = run_name(args.metrics.parent)
    print(f"{name}: perplexity {values['perplexity']:.2f} on {values['tokens']} tokens", file=sys.stderr)


def read_test(path: Path) -> pd.DataFrame:
    """test.parquet, as pack_blocks.py writes it."""
    return read_columns(path, TEXTS, "pack_blocks").to_pandas()


if __name__ == "__main__":
    run_script(main)
