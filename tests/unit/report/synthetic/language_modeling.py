"""Synthetic results of experiments on plain text."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from frugal.config.base import plain
from frugal.config.language_modeling import LanguageModelingRun
from frugal.config.study import Experiment, dump_yaml
from frugal.files import write_json

from . import HARDWARE, HOSTILE

#: Experiment -> how many nats a token each run loses; another one loses 3.0 untuned and 2.8 tuned.
NATS = {
    "wikitext": {"base": 3.0, "tuned": 2.8, "no_dropout": 2.8},
    "climate": {"base": 3.1, "tuned": 2.9},
}


def scored(nats: float, seed: int) -> pd.DataFrame:
    """documents.parquet of a synthetic model that loses about ``nats`` a token, less or more by document."""
    tokens = np.arange(100, 220, 10)
    noise = np.random.default_rng(seed).normal(0, 0.02, len(tokens)) + np.random.default_rng(0).normal(
        0, 0.3, len(tokens)
    )
    return pd.DataFrame(
        {
            "document": [f"document-{place:02d}" for place in range(len(tokens))],
            "tokens": tokens,
            "nll": tokens * (nats + noise),
            "correct": (tokens * 0.4).astype(int),
            "words": tokens * 3 // 4,
            "bytes": tokens * 4,
        }
    )


def make_documents(prepared: Path) -> None:
    """A prepared corpus."""
    summary = {
        "documents": 15, "kept": 12, "skipped": {"near-duplicate": 1, "encrypted": 2}, "characters": 60000,
        "words": 9000, "near_duplicates": 1, "source": None, "notes": [f"a page was cut: {HOSTILE}"],
    }  # fmt: skip
    write_json(prepared / "summary.json", summary)
    manifest = [
        {
            "document": f"{place:02d}.pdf", "title": "Oceans", "file": f"{place:02d}.pdf", "pages": 4,
            "pages_skipped": 0, "characters": 5000, "status": "skipped" if place == 3 else "kept",
            "reason": f"broken: {HOSTILE}" if place == 3 else "",
        }
        for place in range(1, 4)
    ]  # fmt: skip
    pd.DataFrame(manifest).to_parquet(prepared / "manifest.parquet", index=False)


def make_language_modeling(folder: Path, experiment: Experiment, blocks: Path) -> None:
    """The results of an experiment, its blocks, and ladder and ratings where its settings ask for them."""
    nats = NATS.get(experiment.name, {"base": 3.0})
    for seed, (name, run) in enumerate(experiment.runs.items()):
        make_run(folder / name, run, nats.get(name, 2.8), seed)
        if name != "base":
            counts = {"documents": {"train": 9, "validation": 1, "test": 2}}
            counts |= {"tokens": {"train": 9000, "validation": 900, "test": 1860}, "blocks": {"train": 18}}
            write_json(blocks / name / "blocks.json", counts)
    if experiment.ladder is not None:
        write_json(folder / "ladder" / "measurements.json", LADDER)
    if not experiment.shared.rating.sheets:
        return
    criteria = ("fluency", "relevance", "correctness")
    ratings = {
        "raters": 2, "items": 20, "means": {"base": dict.fromkeys((*criteria, "overall"), 2.5)},
        "n": dict.fromkeys(("base", "tuned"), dict.fromkeys((*criteria, "overall"), 20)),
        "win_rate": dict.fromkeys((*criteria, "overall"), 0.7), "alpha": dict.fromkeys(criteria, 0.61),
        "note": None,
    }  # fmt: skip
    ratings["means"]["tuned"] = dict.fromkeys((*criteria, "overall"), 3.75)
    write_json(folder / "rating" / "ratings.json", ratings)


def make_run(folder: Path, run: LanguageModelingRun, nats: float, seed: int) -> None:
    """One run's files."""
    table = scored(nats, seed)
    total = table.drop(columns="document").sum()
    metrics = {
        "perplexity": np.exp(total["nll"] / total["tokens"]), "word_perplexity": np.exp(total["nll"] / total["words"]),
        "bits_per_byte": total["nll"] / np.log(2) / total["bytes"], "token_accuracy": 0.4 + 0.1 * (3 - nats),
        "nll_per_token": total["nll"] / total["tokens"], "tokens": int(total["tokens"]), "words": int(total["words"]),
        "bytes": int(total["bytes"]), "documents": len(table), "base_model_mb": 256.6, "peak_rss_mb": 1200.0,
        "seconds": 20.0, "tokens_per_second": 93.0,
    }  # fmt: skip
    names = ("perplexity", "word_perplexity", "bits_per_byte", "token_accuracy")
    training = {
        "steps": 60, "blocks": 18, "tokens": 9000, "seconds": 90.0, "tokens_per_second": 310.0,
        "trainable_parameters": 460800, "parameters": 134975808, "trainable_share": 0.003414, "peak_rss_mb": 1500.0,
        "peak_device_mb": None, "matmul_peak_share": 0.41, "final_loss": 2.7, "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2, "effective_batch_size": 8, "adapter_mb": 1.9, "final_eval_loss": 2.9,
        "best_eval_loss": 2.85, "compute_dtype": "float32",
        "adapted_modules": dict.fromkeys(["k_proj", "o_proj", "q_proj", "v_proj"], 30),
        "linear_modules": dict.fromkeys(["down_proj", "k_proj", "o_proj", "q_proj", "v_proj"], 30),
        "compute_dtype_reason": "auto: this CPU (AVX2) emulates bfloat16",
    }  # fmt: skip
    record = {
        "metrics": metrics,
        "intervals": {name: [0.95 * metrics[name], 1.05 * metrics[name]] for name in names},
        "training": None if folder.name == "base" else training,
        "provenance": {
            "hardware": HARDWARE,
            "versions": {"python": "3.11.2", "torch": "2.13.0"},
            "commit": "0123456789abcdef0123456789abcdef01234567",
            "seed": 1,
            "inputs": {"test": "a" * 64, "config": "b" * 64},
        },
    }
    write_json(folder / "metrics.json", record)
    (folder / "config.yaml").write_text(dump_yaml(plain(run)))
    table.to_parquet(folder / "documents.parquet", index=False)
    answers = [
        {"prompt": text, "answer": f"{folder.name} {HOSTILE if place else 'and so on'}", "tokens": 9}
        for place, text in enumerate(run.prompts.texts)
    ]
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in answers]
    (folder / "answers.jsonl").write_text("".join(lines), encoding="utf-8")
    if folder.name != "base":
        steps = np.arange(10, 70, 10)
        history = pd.DataFrame({"step": steps, "epoch": steps / 20, "loss": 3 - steps / 200, "eval_loss": np.nan})
        history["num_input_tokens_seen"] = steps * 150
        # Best after 40 steps, 2 % above it in the end: overfitting, since the training loss falls throughout.
        checks = pd.DataFrame({"step": [20, 40, 60], "epoch": [1.0, 2.0, 3.0], "eval_loss": [3.0, 2.85, 2.907]})
        checks["num_input_tokens_seen"] = checks["step"] * 150
        pd.concat([history, checks]).sort_values("step").to_csv(folder / "history.csv", index=False)


def rung(name: str, peak: float, speed: float, largest: int) -> dict:
    """One rung of a synthetic ladder; its estimate is 10 % above the measurement."""
    parts = {"weights": 0.5, "gradients": 0.1, "optimizer": 0.2, "activations": 0.1, "logits": 0.1, "overhead": 0.1}
    estimate = {part: share * peak for part, share in parts.items()} | {"total": 1.1 * peak}
    return {
        "rung": name, "changed": f"what {name} changes", "peak_mb": peak, "baseline_mb": 300.0, "estimate": estimate,
        "tokens_per_second": speed, "matmul_peak_share": 0.3, "loss": 3.0, "trainable_parameters": 460800,
        "parameters": 134975808, "adapter_mb": 1.9, "largest_batch": largest, "error": None,
        "probes": [{"batch_size": largest, "fits": True, "peak_mb": 2000.0},
                   {"batch_size": largest + 1, "fits": False, "peak_mb": 2100.0}],
    }  # fmt: skip


#: Four rungs, one of which failed.
LADDER = {
    "hardware": {"processor": "Test CPU @ 2 GHz", "cores": 2, "gpus": []},
    "block_length": 512, "batch_size": 2, "steps": 4, "memory_budget_mb": 2048,
    "rungs": [
        rung("full", 4000.0, 100.0, 0),
        rung("lora", 2500.0, 150.0, 1),
        {"rung": "nf4", "changed": "4 bits", "peak_mb": 1.0, "error": HOSTILE},
        rung("gradient_checkpointing", 1500.0, 120.0, 3),
        rung("chunked_loss", 1000.0, 130.0, 9),
    ],
}  # fmt: skip
