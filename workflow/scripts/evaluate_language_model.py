"""Measure one run's perplexity on the test documents, and let it continue the prompts."""

import argparse
import json
import sys
import time
from pathlib import Path

import pandas as pd

from frugal.errors import FrugalError, first_line, run_script
from frugal.files import atomic_path, read_json, sha256_file, sha256_tree, write_text
from frugal.hardware import choose_device, keep_freed_memory, peak_device_mb, peak_rss_mb, provenance
from frugal.runs import hash_inputs, load_run, write_metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="the run's config.yaml")
    parser.add_argument("--experiment", required=True, help="wikitext or climate")
    parser.add_argument("--base-model", required=True, type=Path)
    parser.add_argument("--adapter", type=Path, help="the trained adapter; none scores the base model")
    parser.add_argument("--training", type=Path, help="the training record, with --adapter")
    parser.add_argument("--test", required=True, type=Path, help="test.parquet")
    parser.add_argument("--metrics", required=True, type=Path, help="output: metrics.json")
    parser.add_argument("--documents", required=True, type=Path, help="output: one row a test document, Parquet")
    parser.add_argument("--answers", required=True, type=Path, help="output: one line a prompt, JSONL")
    args = parser.parse_args()
    keep_freed_memory()
    run = load_run(args.config, args.experiment)
    test = read_test(args.test)

    from frugal.llm.answering import continue_prompts
    from frugal.llm.loading import load_adapter, load_base_model, load_tokenizer, mixed_precision
    from frugal.llm.perplexity import bos_token, intervals, metrics, score

    device = choose_device(run.training.gpus)
    model, tokenizer = load_base_model(args.base_model, run.model, device), load_tokenizer(args.base_model)
    footprint = model.get_memory_footprint() / 2**20
    model = load_adapter(model, args.adapter) if args.adapter else model.eval()
    bos = bos_token(tokenizer, run.evaluation)
    with mixed_precision(model, run.model, device):
        start = time.perf_counter()
        table = score(model, test, run.evaluation, tokenizer.pad_token_id, bos)
        seconds = time.perf_counter() - start
        answers = continue_prompts(model, tokenizer, run.prompts, run.seed)

    values = metrics(table)
    values |= {
        "base_model_mb": round(footprint, 1),
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "seconds": round(seconds, 3),
        "tokens_per_second": round(values["tokens"] / seconds, 2),
    }
    if (device_mb := peak_device_mb()) is not None and run.training.gpus:
        values["peak_device_mb"] = round(device_mb, 1)
    inputs = hash_inputs(test=args.test, config=args.config) | {"base_model": sha256_tree([args.base_model])}
    if args.adapter:
        inputs["adapter"] = sha256_file(args.adapter / "adapter_model.safetensors")
    with atomic_path(args.documents) as temporary:
        table.to_parquet(temporary, index=False)
    write_text(args.answers, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in answers))
    write_metrics(
        args.metrics,
        values,
        intervals(table, run.evaluation.bootstrap_samples, run.seed),
        read_json(args.training) if args.training else None,
        provenance(run.seed, inputs),
    )
    name = f"{args.experiment}/{args.metrics.parent.name}"
    print(f"{name}: perplexity {values['perplexity']:.2f} on {values['tokens']} tokens", file=sys.stderr)


def read_test(path: Path) -> pd.DataFrame:
    """test.parquet, as pack_blocks.py writes it."""
    try:
        return pd.read_parquet(path, columns=["document", "input_ids", "words", "bytes"])
    except (OSError, ValueError) as error:
        raise FrugalError(
            f"{path}: cannot be read: {first_line(error)}; make it again with the rule pack_blocks"
        ) from None


if __name__ == "__main__":
    run_script(main)
