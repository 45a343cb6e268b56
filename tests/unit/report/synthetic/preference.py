"""Synthetic results of experiments on preferences."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from frugal.config.base import plain
from frugal.config.study import Experiment, dump_yaml
from frugal.preference.metrics import metrics_with_intervals

from . import HARDWARE, HOSTILE

BASELINES = ("always_a", "popularity", "attribute_overlap", "ease")
#: Run -> how far it tells the items apart, and how far it prefers the position A.
SYSTEMS = {"base": (0.0, 0.6), "tuned": (1.5, 0.05), "always_a": (0.0, 4.0), "next_film": (0.8, 0.0)}


def predictions(strength: float, bias: float, seed: int, users: int = 40, per_kind: int = 2) -> pd.DataFrame:
    """P(A) of a synthetic system: how far it tells the films apart, and how far it prefers the position A."""
    rng = np.random.default_rng(seed)
    rows = [(user, kind) for user in range(users) for kind in ("easy", "hard") for _ in range(per_kind)]
    table = pd.DataFrame(rows, columns=["user", "kind"])
    table = table.assign(liked=range(len(table)), other=range(1000, 1000 + len(table)))
    taste = rng.normal(strength, 1, len(table)) * np.where(table["kind"] == "easy", 1, 0.5)

    def probability(logit):
        return 1 / (1 + np.exp(-logit))

    return table.assign(p_liked_a=probability(bias + taste), p_liked_b=probability(bias - taste))


def write_run(folder: Path, table: pd.DataFrame, **parts) -> None:
    """metrics.json and predictions.parquet of one run; ``parts`` add to metrics.json."""
    folder.mkdir(parents=True)

    without = ("p_a", "brier", "ece") if folder.name.startswith("baseline_") else ()
    metrics, intervals = metrics_with_intervals(table, samples=50, seed=1, without=without)
    metrics |= parts.get("metrics", {})
    record = {
        "metrics": metrics,
        "intervals": intervals,
        "training": parts.get("training"),
        "provenance": {
            "hardware": HARDWARE,
            "versions": {"python": "3.11.2", "torch": "2.13.0"},
            "commit": "0123456789abcdef0123456789abcdef01234567+changes",
            "seed": 1,
            "inputs": {"test": "a" * 64, "config": "b" * 64},
        },
    }
    (folder / "metrics.json").write_text(json.dumps(record))
    table.to_parquet(folder / "predictions.parquet", index=False)


def examples(variant: str) -> list[dict]:
    """Free answers; `always_a` was asked other questions."""
    rows = []
    for place, kind in enumerate(("easy", "hard", "easy", "hard")):
        options = f"Option A: Film {place} (Drama)\nOption B: {HOSTILE.splitlines()[0]} (Comedy)"
        asked = f"Liked: {' '.join(HOSTILE.split())}; Les Misérables (1995) (Drama).\n{options}"
        asked = f"{variant} {asked}" if variant in ("always_a", "next_film") else asked
        answer = "Option B. The user likes Drama." if place else HOSTILE
        rows.append(
            {
                "kind": kind, "input": asked, "expected": "Option B. The user likes Comedy.",
                "answer": answer, "valid": bool(place), "correct": bool(place),
            }
        )  # fmt: skip
    return rows


TRAINING = {
    "steps": 80, "examples": 640, "shortened_histories": 12, "tokens": 91234,
    "seconds": 312.5, "tokens_per_second": 291.9,
    "trainable_parameters": 4884480, "parameters": 139399488, "trainable_share": 0.035039,
    "adapted_modules": {"down_proj": 15, "q_proj": 30, "v_proj": 30},
    "linear_modules": {"down_proj": 30, "q_proj": 30, "v_proj": 30},
    "peak_rss_mb": 2345.6, "peak_device_mb": None, "matmul_peak_share": 0.2143, "final_loss": 0.4123,
    "compute_dtype": "bfloat16", "compute_dtype_reason": "auto: this CPU multiplies in bfloat16 (AMX)",
}  # fmt: skip


def make_preference(folder: Path, experiment: Experiment) -> None:
    """The results of an experiment, baselines included."""
    always_a = predictions(0, 0, 5).assign(p_liked_a=1.0, p_liked_b=1.0)
    write_run(folder / "baseline_always_a", always_a)
    for seed, name in enumerate(BASELINES[1:]):
        write_run(folder / f"baseline_{name}", predictions(0.4 * seed, 0, seed))
    for seed, (name, run) in enumerate(experiment.runs.items(), start=10):
        strength, bias = SYSTEMS.get(name, (1.0, 0.0))
        table = predictions(strength, bias, seed).assign(answer_mass=0.9)
        metrics = {
            "answer_mass": 0.9, "invalid_answer_rate": 0.25, "seconds_per_recommendation": 1.25,
            "seconds_per_scored_pair": 0.31, "base_model_mb": 256.6, "peak_rss_mb": 1800.0, "shortened_histories": 3,
        }  # fmt: skip
        write_run(folder / name, table, metrics=metrics, training=None if name == "base" else TRAINING)
        (folder / name / "config.yaml").write_text(dump_yaml(plain(run)))
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in examples(name)]
        (folder / name / "examples.jsonl").write_text("".join(lines), encoding="utf-8")
        if name != "base":
            steps = np.arange(5, 85, 5)
            loss = 0.3 + 0.5 * np.exp(-steps / (10.0 * seed)) if name == "tuned" else 1 / steps
            history = pd.DataFrame({"step": steps, "epoch": steps / 80, "loss": loss})
            history.to_csv(folder / name / "history.csv", index=False)
