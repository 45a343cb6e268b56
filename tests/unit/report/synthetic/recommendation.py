"""Synthetic results of experiments on recommendation."""

from pathlib import Path

import numpy as np
import pandas as pd

from frugal.config.base import plain
from frugal.config.study import Experiment, dump_yaml
from frugal.files import write_json

from . import HARDWARE, HOSTILE

#: Variant -> how well it ranks.
STRENGTHS = {
    "ssept": 0.30, "without_sse": 0.10, "retrained": 0.30, "bert4rec": 0.10, "large": 0.30, "sampled_loss": 0.10,
    "sasrec": 0.12, "lora": 0.10, "ilora": 0.11, "by_time": 0.20,
}  # fmt: skip
BASELINES = {"popularity": 0.04, "item_knn": 0.06, "ease": 0.08, "ease_recency": 0.16, "markov": 0.08}


def ranks(strength: float, seeds: list[int], users: int = 60) -> pd.DataFrame:
    """Predictions of a synthetic recommender: the larger ``strength``, the higher its targets rank."""
    rows = []
    for seed in seeds:
        rng = np.random.default_rng([seed, round(1000 * strength)])
        rank = np.minimum(rng.geometric(strength, users), 200)
        table = pd.DataFrame({"seed": seed, "user": np.arange(users), "targets": 1, "rank": rank})
        hit = (rank <= 10).astype(float)
        rows.append(
            table.assign(**{"HR@10": hit, "NDCG@10": hit / np.log2(1 + rank), "recall@10": hit, "MRR": 1 / rank})
        )
    return pd.concat(rows, ignore_index=True)


def ranking_record(table: pd.DataFrame) -> dict:
    """What metrics.json says of such predictions."""
    names = ["HR@10", "NDCG@10", "recall@10", "MRR"]
    by_seed = table.groupby("seed")[names].mean()
    metrics = by_seed.mean().to_dict() | {"coverage@10": 0.25, "coverage@5": 0.125, "HR@5": 0.05, "NDCG@5": 0.025}
    several = len(by_seed) > 1
    return {
        "metrics": metrics,
        "std": by_seed.std().to_dict() if several else {},
        "intervals": {name: [metrics[name] - 0.02, metrics[name] + 0.02] for name in ("HR@10", "NDCG@10")},
        "by_seed": {str(seed): row.to_dict() for seed, row in by_seed.iterrows()},
        "sampled": {"HR@10": 0.7, "NDCG@10": 0.4, "MRR": 0.35},
        "cases": table["user"].nunique(),
        "history": "exclude",
        "targets": {"targets": 60, "repeated": 0, "cold": 3},
        "ties": {"validation": 0.5, "evaluation": 0.42, "elsewhere": 0.25},
        "training": None,
        "provenance": {
            "hardware": HARDWARE,
            "versions": {"python": "3.11.2", "torch": "2.13.0"},
            "commit": "0123456789abcdef0123456789abcdef01234567",
            "inputs": {"config": "b" * 64, "sequences": "d" * 64},
        },
    }


#: Group of users or of targets -> the users in it: most in the head, few in the tail, nobody in the last.
GROUPS = {
    ("history", "20 to 34"): range(30), ("history", "35 to 90"): range(30, 60), ("popularity", "head"): range(30),
    ("popularity", "mid"): range(30, 55), ("popularity", "tail"): range(55, 60), ("popularity", "cold"): range(0),
}  # fmt: skip


def write_lists(folder: Path, predictions: pd.DataFrame, strength: float) -> None:
    """beyond.json and groups.parquet of such a recommender."""
    names = ["HR@10", "NDCG@10"]
    users = predictions.groupby("user")[names].mean()
    entries, frames = [], []
    for (by, group), members in GROUPS.items():
        values = users.loc[list(members)]
        frames.append(values.reset_index().assign(by=by, group=group))
        metrics = values.mean().to_dict() if len(values) else {}
        bounds = {name: [value - 0.02, value + 0.02] for name, value in metrics.items()} if len(values) >= 10 else {}
        entries.append({"by": by, "group": group, "users": len(values), "metrics": metrics, "intervals": bounds})
    pd.concat(frames)[["user", "by", "group", *names]].to_parquet(folder / "groups.parquet", index=False)
    record = {
        "metrics": {
            "coverage@10": strength, "gini@10": 1 - strength, "popularity@10": 0.25,
            "popularity_lift@10": 0.4 - strength, "novelty@10": 2.5,
        },
        "intervals": {"popularity@10": [0.2, 0.3], "popularity_lift@10": [-0.1, 0.5], "novelty@10": [2.25, 2.75]},
        "groups": entries,
    }  # fmt: skip
    if predictions["seed"].nunique() > 1:
        record["std"] = {"coverage@10": 0.01, "gini@10": 0.02, "popularity@10": 0.005, "novelty@10": 0.125}
    write_json(folder / "beyond.json", record)


def make_recommendation(folder: Path, experiment: Experiment) -> None:
    """The results of an experiment, baselines included, and measurements where its settings ask for them."""
    for name, strength in BASELINES.items():
        table = ranks(strength, [0])
        write_json(folder / f"baseline_{name}" / "metrics.json", ranking_record(table) | {"by_seed": {}})
        table.to_parquet(folder / f"baseline_{name}" / "predictions.parquet", index=False)
        write_lists(folder / f"baseline_{name}", table, strength)
    for variant, run in experiment.runs.items():
        seeds, width, strength = run.seeds, run.model.hidden_size, STRENGTHS.get(variant, 0.2)
        skipped = [{"name": "item", "reason": HOSTILE}]
        start = {"loaded": ["encoder.0"], "skipped": skipped, "missing": []} if run.warm_start else None
        record = {
            "steps": 100, "epochs": 12.0, "best_epoch": 9.0, "seconds": 90.0, "epoch_seconds": 7.5,
            "samples_per_second": 1234.0, "target_positions_per_second": 5678.0, "parameters": 2000 * width,
            "item_embedding_parameters": 1682 * width, "encoder_parameters": 318 * width,
            "trainable_parameters": 1000, "trainable_share": 0.0055, "peak_rss_mb": 900.5, "peak_device_mb": None,
            "matmul_peak_share": 0.21, "final_loss": 5.5, "compute_dtype": "float32",
            "by_seed": {str(seed): {"stopped_early": seed == 1, "warm_start": start} for seed in seeds},
        }  # fmt: skip
        table = ranks(strength, seeds)
        write_json(folder / variant / "metrics.json", ranking_record(table) | {"training": record})
        table.to_parquet(folder / variant / "predictions.parquet", index=False)
        write_lists(folder / variant, table, strength)
        (folder / variant / "config.yaml").write_text(dump_yaml(plain(run)))
        for seed in seeds:
            steps = np.arange(10, 110, 10)
            validation = np.where(steps % 20 == 0, strength * (1 - np.exp(-steps / (30 + seed))), np.nan)
            history = pd.DataFrame({"step": steps, "seconds": steps * 0.9, "loss": 7 / steps, "NDCG@10": validation})
            (folder / variant / "seeds" / str(seed)).mkdir(parents=True)
            history.to_csv(folder / variant / "seeds" / str(seed) / "history.csv", index=False)
    if experiment.efficiency is not None:
        write_json(folder / "efficiency" / "measurements.json", MEASUREMENTS)


#: Two machines; on the second one mode failed.
MEASUREMENTS = {
    "hardware": {"processor": "Test CPU @ 2 GHz", "cores": 2, "gpus": []},
    "rows": [
        {
            "size": size, "mode": mode, "parameters": parameters, "trainable_share": 1.0, "batch_size": 64,
            "sequence_length": 50, "samples_per_second": rate, "epoch_seconds": 943 / rate, "peak_rss_mb": 800.0,
            "peak_device_mb": None, "matmul_peak_share": 0.3, "loss": 6.0, "error": None,
        }
        for size, parameters, mode, rate in (
            ("1m", 1_000_000, "float32", 100.0), ("1m", 1_000_000, "bfloat16", 150.0),
            ("5m", 5_000_000, "float32", 40.0), ("5m", 5_000_000, "bfloat16", 50.0),
        )
    ] + [
        {
            "size": "5m", "mode": "bfloat16", "parameters": 5_000_000, "samples_per_second": 9000.0,
            "peak_rss_mb": 3000.0, "peak_device_mb": 2000.0, "error": None,
            "hardware": {"processor": "Other CPU", "cores": 16, "gpus": [{"name": "Test GPU", "memory_mb": 1000}]},
        },
        {
            "size": "5m", "mode": "bfloat16+compile", "error": HOSTILE, "peak_rss_mb": 1.0,
            "hardware": {"processor": "Other CPU", "cores": 16, "gpus": [{"name": "Test GPU", "memory_mb": 1000}]},
        },
    ],
}  # fmt: skip
