"""Shared by the evaluation scripts of language models: arguments, the model, its memory, and metrics.json."""

import argparse
import sys
from pathlib import Path
from typing import Any

from frugal.config.llm import AdapterRun
from frugal.files import read_json, sha256_file, sha256_tree
from frugal.run.device import Choice, resolve_compute_dtype
from frugal.run.hardware import peak_device_mb, peak_rss_mb, provenance
from frugal.run.outputs import hash_inputs, run_name, write_metrics


def evaluation_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the arguments of both scripts; each adds its own."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", required=True, help="the run's settings/evaluation.yaml")
    parser.add_argument("--base-model", required=True, type=Path, help="folder of the base model")
    parser.add_argument("--adapter", type=Path, help="the trained adapter; none scores the base model")
    parser.add_argument("--training", type=Path, help="the training record, with --adapter")
    parser.add_argument("--test", required=True, type=Path, help="test.parquet or test.jsonl")
    parser.add_argument("--metrics", required=True, type=Path, help="output: metrics.json")
    return parser


def choose_compute_dtype(args: argparse.Namespace, run: AdapterRun, device: str) -> tuple[AdapterRun, Choice]:
    """The run with the dtype that it computes in on ``device``, which is printed; and the choice."""
    run, choice = resolve_compute_dtype(run, device)
    print(f"{run_name(args.metrics.parent)}: computes in {choice}", file=sys.stderr, flush=True)
    return run, choice


def load_for_evaluation(base_model: Path, adapter: Path | None, run: AdapterRun, device: str) -> tuple[Any, Any, float]:
    """The model that a run evaluates: the base model, with the run's adapter if it has one; ready for inference.

    Returns:
        The model, its tokenizer, and the MB (2^20 bytes) that the base model's weights take.

    Raises:
        FrugalError: a folder holds no usable model, tokenizer or adapter.
    """
    # Imported here: they take seconds, and errors in the arguments should appear at once.
    from frugal.llm.loading import load_adapter, load_base_model, load_tokenizer

    model, tokenizer = load_base_model(base_model, run.model, device), load_tokenizer(base_model)
    base_model_mb = model.get_memory_footprint() / 2**20
    return load_adapter(model, adapter) if adapter else model.eval(), tokenizer, base_model_mb


def memory_metrics(base_model_mb: float, gpus: int) -> dict[str, float]:
    """MB of the base model's weights, peak MB of this process so far and, with ``gpus``, of the GPUs."""
    values = {"base_model_mb": round(base_model_mb, 1), "peak_rss_mb": round(peak_rss_mb(), 1)}
    if gpus and (device_mb := peak_device_mb()) is not None:
        values["peak_device_mb"] = round(device_mb, 1)
    return values


def write_evaluation(
    args: argparse.Namespace,
    run: AdapterRun,
    choice: Choice,
    metrics: dict[str, Any],
    intervals: dict[str, list[float]],
    check: dict[str, Any] | None = None,
) -> None:
    """Write metrics.json: the metrics, the training record, and hashes of all inputs.

    Args:
        args: of `evaluation_parser`.
        choice: the dtype that the model computed in.
        metrics: name -> value.
        intervals: name -> [lower, upper], 95 %, for metrics that have one.
        check: of the adapter, from `frugal.llm.adapter_check`; it stands for the one of the training record.
    """
    inputs = hash_inputs(test=args.test, config=args.config) | {"base_model": sha256_tree([args.base_model], kept=True)}
    if args.adapter:
        inputs["adapter"] = sha256_file(args.adapter / "adapter_model.safetensors")
    training = read_json(args.training) | ({"check": check} if check else {}) if args.training else None
    types = {"compute_dtype": choice.dtype, "compute_dtype_reason": choice.reason}
    write_metrics(args.metrics, metrics, intervals, training, provenance(run.seed, inputs) | types)
