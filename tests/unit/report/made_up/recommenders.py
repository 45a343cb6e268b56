"""Results of the experiments on recommenders, made up."""

from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from frugal.files import write_json

from . import HOSTILE

#: Variant -> how well it ranks, and what its settings change.
VARIANTS = {
    "ssept": {
        "ssept": (0.30, {}),
        "without_sse": (0.10, {}),
        "retrained": (0.30, {"warm_start": {"path": "SSE_PT_tf.pth"}}),
    },
    "bert4rec": {
        "bert4rec": (0.10, {}),
        "large": (0.30, {"model": {"hidden_size": 128}}),
        "sampled_loss": (0.10, {"loss": {"name": "sampled_softmax", "negatives": 100}}),
        "sasrec": (0.12, {"model": {"architecture": "sasrec"}}),
        "lora": (0.10, {"adapter": {"method": "lora", "r": 8}, "warm_start": {"variant": "bert4rec"}}),
        "ilora": (0.11, {"adapter": {"method": "ilora", "r": 8, "experts": 4}, "warm_start": {"variant": "bert4rec"}}),
        "by_time": (0.20, {"data": {"split": "global_time", "test_share": 0.1}}),
    },
}
RECOMMENDER_RULES = {"popularity": 0.04, "item_knn": 0.06, "ease": 0.08, "ease_recency": 0.16, "markov": 0.08}


def ranks(strength: float, seeds: list[int], users: int = 60) -> pd.DataFrame:
    """Predictions of a made-up recommender: the larger ``strength``, the higher its targets rank."""
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
        "training": None,
        "provenance": {
            "hardware": {"processor": "Test CPU @ 2 GHz", "cores": 2, "memory_mb": 16384, "gpus": []},
            "versions": {"python": "3.11.2", "torch": "2.13.0"},
            "commit": "0123456789abcdef0123456789abcdef01234567",
            "inputs": {"config": "b" * 64, "sequences": "d" * 64},
        },
    }


def make_recommender(folder: Path) -> None:
    """The results of one recommender experiment, baselines and measurements included."""
    for name, strength in RECOMMENDER_RULES.items():
        table = ranks(strength, [0])
        write_json(folder / f"baseline_{name}" / "metrics.json", ranking_record(table) | {"by_seed": {}})
        table.to_parquet(folder / f"baseline_{name}" / "predictions.parquet", index=False)
    for variant, (strength, changes) in VARIANTS[folder.name].items():
        seeds = [1] if variant == "ilora" else [1, 2]
        config = {
            "dataset": "movielens-100k", "seeds": seeds, "data": {"split": "leave_one_out", "fraction": 1.0},
            "model": {
                "architecture": folder.name, "hidden_size": 64, "user_embedding_size": 32, "positions": "rotary",
                "score": "cosine", "cosine_scale": 14.0, "num_hidden_layers": 2,
                "num_attention_heads": 2, "intermediate_size": 256, "max_length": 50,
            },
            "loss": {"name": "cross_entropy"}, "adapter": {"method": "none"}, "warm_start": None,
            "training": {
                "num_train_epochs": 20, "per_device_train_batch_size": 128, "gradient_accumulation_steps": 1,
                "learning_rate": 0.001, "precision": "float32", "early_stopping_patience": 3, "eval_epochs": 5,
            },
            "evaluation": {"sampled_negatives": 100},
        }  # fmt: skip
        for key, change in changes.items():
            config[key] = {**(config.get(key) or {}), **change}
        width = config["model"]["hidden_size"]
        start = (
            {"loaded": ["encoder.0"], "skipped": [{"name": "item", "reason": HOSTILE}], "missing": []}
            if config["warm_start"]
            else None
        )
        record = {
            "steps": 100, "epochs": 12.0, "best_epoch": 9.0, "seconds": 90.0, "epoch_seconds": 7.5,
            "samples_per_second": 1234.0, "target_positions_per_second": 5678.0, "parameters": 2000 * width,
            "item_embedding_parameters": 1682 * width, "encoder_parameters": 318 * width,
            "trainable_parameters": 1000, "trainable_share": 0.0055, "peak_rss_mb": 900.5, "peak_device_mb": None,
            "matmul_peak_share": 0.21, "final_loss": 5.5,
            "by_seed": {str(seed): {"stopped_early": seed == 1, "warm_start": start} for seed in seeds},
        }  # fmt: skip
        table = ranks(strength, seeds)
        write_json(folder / variant / "metrics.json", ranking_record(table) | {"training": record})
        table.to_parquet(folder / variant / "predictions.parquet", index=False)
        (folder / variant / "config.yaml").write_text(yaml.safe_dump(config))
        for seed in seeds:
            steps = np.arange(10, 110, 10)
            validation = np.where(steps % 20 == 0, strength * (1 - np.exp(-steps / (30 + seed))), np.nan)
            history = pd.DataFrame({"step": steps, "seconds": steps * 0.9, "loss": 7 / steps, "NDCG@10": validation})
            (folder / variant / "seeds" / str(seed)).mkdir(parents=True)
            history.to_csv(folder / variant / "seeds" / str(seed) / "history.csv", index=False)
    if folder.name == "bert4rec":
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
