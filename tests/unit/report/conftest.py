"""A small synthetic study on disk, with titles and answers as hostile as data can be."""

import json
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import yaml

from frugal.config.language_modeling import LanguageModelingRun
from frugal.config.movie_preference import MoviePreferenceRun
from frugal.files import write_json
from frugal.metrics import bootstrap_intervals, by_kind, preference_metrics

HOSTILE = (
    "</script><b>x</b> $%&_#{}~^\\ a|b `c` [d](http://e.f) \"q\" 'r' -- 1. ```\n\n"
    "## Not a heading \u5f71 \u00e9 \u202e\x07"
)
RULES = ("always_a", "popularity", "genre_overlap", "ease")
RUNS = [*(f"baseline_{name}" for name in RULES), "base", "tuned", "always_a", "next_film"]
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
#: Experiment on plain text -> its data set, and how many nats a token each run loses.
LANGUAGE_MODELS = {
    "wikitext": ("wikipedia-sample", {"base": 3.0, "tuned": 2.8, "no_dropout": 2.8}),
    "climate": ("climate-chapters", {"base": 3.1, "tuned": 2.9}),
}
ARGUMENTS = [f"movie_preference/{name}" for name in RUNS]
ARGUMENTS += [
    f"{experiment}/{name}"
    for experiment, variants in VARIANTS.items()
    for name in (*(f"baseline_{rule}" for rule in RECOMMENDER_RULES), *variants)
]
ARGUMENTS += [f"{experiment}/{name}" for experiment, (_, runs) in LANGUAGE_MODELS.items() for name in runs]


def predictions(strength: float, bias: float, seed: int, users: int = 40, per_kind: int = 2) -> pd.DataFrame:
    """P(A) of a made-up system: how far it tells the films apart, and how far it prefers the position A."""
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

    def metric(rows):
        return preference_metrics(rows["p_liked_a"].to_numpy(), rows["p_liked_b"].to_numpy())

    def interval(rows):
        columns = [rows["p_liked_a"].to_numpy(), rows["p_liked_b"].to_numpy()]
        users = rows["user"].to_numpy()
        return bootstrap_intervals(preference_metrics, *columns, groups=users, samples=50, seed=1)

    metrics = by_kind(table, metric) | parts.get("metrics", {})
    if folder.name.startswith("baseline_"):
        unstated = ("p", "brier", "ece")
        metrics = {key: value for key, value in metrics.items() if key.split("_")[0] not in unstated}
    record = {
        "metrics": metrics,
        "intervals": by_kind(table, interval),
        "training": parts.get("training"),
        "provenance": {
            "hardware": {"processor": "Test CPU @ 2 GHz", "cores": 2, "memory_mb": 16384, "gpus": []},
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
    "steps": 80, "examples": 640, "tokens": 91234, "seconds": 312.5, "tokens_per_second": 291.9,
    "trainable_parameters": 4884480, "parameters": 139399488, "trainable_share": 0.035039,
    "peak_rss_mb": 2345.6, "peak_device_mb": None, "matmul_peak_share": 0.2143, "final_loss": 0.4123,
}  # fmt: skip


def make_study(root: Path) -> Path:
    """A whole study below ``root``: results/trial and data/prepared. Returns the results folder."""
    folder = root / "results" / "trial" / "movie_preference"
    always_a = predictions(0, 0, 5).assign(p_liked_a=1.0, p_liked_b=1.0)
    write_run(folder / "baseline_always_a", always_a)
    for seed, name in enumerate(RULES[1:]):
        write_run(folder / f"baseline_{name}", predictions(0.4 * seed, 0, seed))
    systems = {"base": (0.0, 0.6), "tuned": (1.5, 0.05), "always_a": (0.0, 4.0), "next_film": (0.8, 0.0)}
    for seed, (name, (strength, bias)) in enumerate(systems.items(), start=10):
        table = predictions(strength, bias, seed).assign(answer_mass=0.9)
        metrics = {
            "answer_mass": 0.9, "invalid_answer_rate": 0.25, "seconds_per_recommendation": 1.25,
            "seconds_per_scored_pair": 0.31, "base_model_mb": 256.6, "peak_rss_mb": 1800.0,
        }  # fmt: skip
        write_run(folder / name, table, metrics=metrics, training=None if name == "base" else TRAINING)
        pairs = {"format": "next_film"} if name == "next_film" else {}
        pairs |= {"answer_position": "always_a"} if name == "always_a" else {}
        run = MoviePreferenceRun(dataset="movielens-100k", base_model="smollm2-135m-instruct", pairs=pairs)
        (folder / name / "config.yaml").write_text(yaml.safe_dump(json.loads(run.model_dump_json())))
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in examples(name)]
        (folder / name / "examples.jsonl").write_text("".join(lines), encoding="utf-8")
        if name != "base":
            steps = np.arange(5, 85, 5)
            loss = 0.3 + 0.5 * np.exp(-steps / (10.0 * seed)) if name == "tuned" else 1 / steps
            history = pd.DataFrame({"step": steps, "epoch": steps / 80, "loss": loss})
            history.to_csv(folder / name / "history.csv", index=False)
    prepared = root / "data" / "prepared" / "movielens-100k"
    prepared.mkdir(parents=True)
    summary = {
        "rows_read": 100000, "rows_kept": 99990, "users": 943, "items": 1682, "density": 0.063,
        "ties_at_last_position": 415, "first_timestamp": 874724710,
        "inputs": {"ml-100k.inter": "c" * 64},
    }  # fmt: skip
    (prepared / "summary.json").write_text(json.dumps(summary))
    for experiment in VARIANTS:
        make_recommender(folder.parent / experiment)
    make_language_models(root)
    return folder.parent


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


def scored(nats: float, seed: int) -> pd.DataFrame:
    """documents.parquet of a made-up model that loses about ``nats`` a token, less or more by document."""
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


def make_language_models(root: Path) -> None:
    """The results and data of the experiments on plain text, ladder and ratings included."""
    for experiment, (dataset, runs) in LANGUAGE_MODELS.items():
        prepared = root / "data" / "prepared" / dataset
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
        folder = root / "results" / "trial" / experiment
        for seed, (name, nats) in enumerate(runs.items()):
            make_language_model_run(folder / name, dataset, nats, seed)
            if name != "base":
                counts = {"documents": {"train": 9, "validation": 1, "test": 2}}
                counts |= {"tokens": {"train": 9000, "validation": 900, "test": 1860}, "blocks": {"train": 18}}
                write_json(root / "data" / "blocks" / "trial" / experiment / name / "blocks.json", counts)
        criteria = ("fluency", "relevance", "correctness")
        ratings = {
            "raters": 2, "items": 20, "means": {"base": dict.fromkeys((*criteria, "overall"), 2.5)},
            "n": dict.fromkeys(("base", "tuned"), dict.fromkeys((*criteria, "overall"), 20)),
            "win_rate": dict.fromkeys((*criteria, "overall"), 0.7), "alpha": dict.fromkeys(criteria, 0.61),
            "note": None,
        }  # fmt: skip
        ratings["means"]["tuned"] = dict.fromkeys((*criteria, "overall"), 3.75)
        write_json(folder / "rating" / "ratings.json", ratings)
    write_json(root / "results" / "trial" / "climate" / "ladder" / "measurements.json", LADDER)


def make_language_model_run(folder: Path, dataset: str, nats: float, seed: int) -> None:
    """One run's files."""
    run = LanguageModelingRun(
        dataset=dataset,
        base_model="smollm2-135m-instruct",
        lora={"r": 8, "lora_alpha": 32, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]},
        prompts={"texts": ["The sea is", "Ice melts when"]},
        rating={"sheets": ["sheet-1.csv", "sheet-2.csv"]},
    )
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
        "best_eval_loss": 2.85,
    }  # fmt: skip
    record = {
        "metrics": metrics,
        "intervals": {name: [0.95 * metrics[name], 1.05 * metrics[name]] for name in names},
        "training": None if folder.name == "base" else training,
        "provenance": {
            "hardware": {"processor": "Test CPU @ 2 GHz", "cores": 2, "memory_mb": 16384, "gpus": []},
            "versions": {"python": "3.11.2", "torch": "2.13.0"},
            "commit": "0123456789abcdef0123456789abcdef01234567",
            "seed": 1,
            "inputs": {"test": "a" * 64, "config": "b" * 64},
        },
    }
    write_json(folder / "metrics.json", record)
    (folder / "config.yaml").write_text(yaml.safe_dump(run.model_dump(mode="json")))
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
    """One rung of a made-up ladder; its estimate is 10 % above the measurement."""
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


def options(root: Path) -> list[str]:
    """The options that all three scripts share, for a study that `make_study` made."""
    results, data = root / "results" / "trial", root / "data"
    return [
        "--results",
        str(results),
        "--study",
        "trial",
        "--data",
        str(data),
        "--efficiency",
        "bert4rec",
        "--ladder",
        "climate",
        "--runs",
        *ARGUMENTS,
    ]


@pytest.fixture(scope="session")
def study(tmp_path_factory) -> Path:
    """The root of a study with all its results."""
    root = tmp_path_factory.mktemp("study")
    make_study(root)
    return root


def write_report_of(root: Path, folder: Path) -> None:
    """The three scripts, one after the other, in this process."""
    import make_tables
    import plot_figures
    import write_report

    for script, more in (
        (make_tables, ["--output", str(folder / "tables")]),
        (plot_figures, ["--output", str(folder / "figures")]),
        (write_report, ["--report", str(folder)]),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", [script.__name__, *options(root), *more])
            script.main()


@pytest.fixture(scope="session")
def synthetic() -> SimpleNamespace:
    """What the tests need to make studies and reports of their own."""
    return SimpleNamespace(
        options=options,
        predictions=predictions,
        runs=ARGUMENTS,
        hostile=HOSTILE,
        write=write_report_of,
        language_models=LANGUAGE_MODELS,
        make_language_models=make_language_models,
        scored=scored,
    )


@pytest.fixture(scope="session")
def written(study) -> Path:
    """The study's report folder, written once."""
    folder = study / "results" / "trial" / "report"
    write_report_of(study, folder)
    return folder


@pytest.fixture(autouse=True)
def _closed_figures():
    """Figures that a test has drawn do not outlive it."""
    yield
    plt.close("all")
