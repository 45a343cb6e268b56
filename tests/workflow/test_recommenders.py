"""The recommender experiments of the smoke study: what they leave behind, and what does and does not run again."""

import json

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

pytestmark = pytest.mark.workflow
BASELINES = ["popularity", "item_knn", "ease", "ease_recency", "markov"]
SEEDS = {
    "ssept/ssept": [1],
    "ssept/retrain": [1],
    "bert4rec/bert4rec": [1, 2],
    "bert4rec/sasrec": [1],
    "bert4rec/lora": [1],
    "bert4rec/ilora": [1],
}


@pytest.mark.parametrize("run", [*SEEDS, *(f"{e}/baseline_{b}" for e in ("ssept", "bert4rec") for b in BASELINES)])
def test_every_run_leaves_its_metrics(smoke, run):
    folder = smoke.folder / "results/smoke" / run
    result = json.loads((folder / "metrics.json").read_text())
    for k in (5, 10, 20):
        for name in ("HR", "NDCG", "recall"):
            low, high = result["intervals"][f"{name}@{k}"]
            assert 0 <= low <= result["metrics"][f"{name}@{k}"] <= high <= 1
        assert 0 < result["metrics"][f"coverage@{k}"] <= 1
    assert result["metrics"]["NDCG@10"] <= result["metrics"]["HR@10"]
    predictions = pd.read_parquet(folder / "predictions.parquet")
    assert predictions["seed"].unique().tolist() == SEEDS.get(run, [0])
    assert predictions.groupby("seed").size().tolist() == [result["cases"]] * predictions["seed"].nunique()
    assert predictions["NDCG@10"].mean() == pytest.approx(result["metrics"]["NDCG@10"])
    lists = json.loads((folder / "beyond.json").read_text())
    assert lists["metrics"]["coverage@10"] == pytest.approx(result["metrics"]["coverage@10"])
    by_length = [entry for entry in lists["groups"] if entry["by"] == "history"]
    assert sum(entry["users"] for entry in by_length) == result["cases"]
    whole = sum(entry["users"] * entry["metrics"]["NDCG@10"] for entry in by_length) / result["cases"]
    assert whole == pytest.approx(result["metrics"]["NDCG@10"])
    # MovieLens numbers its users and films from 1, and the workflow from 0.
    assert (predictions["user_id"].astype(int) == predictions["user"] + 1).all()
    assert (predictions["target_ids"].map(len) == predictions["targets"]).all()
    assert (result["training"] is None) == ("baseline" in run)
    assert ("std" in result) == (len(SEEDS.get(run, [0])) > 1)


def test_systems_meet_on_the_same_users(smoke):
    def users(run):
        return pd.read_parquet(smoke.folder / "results/smoke" / run / "predictions.parquet")["user"].unique()

    for run in ("bert4rec/sasrec", "bert4rec/ilora", "bert4rec/baseline_markov"):
        assert np.array_equal(users("bert4rec/bert4rec"), users(run))


def test_models_and_adapters_are_what_they_should_be(smoke):
    folder = smoke.folder / "results/smoke/bert4rec"
    whole = load_file(folder / "bert4rec/seeds/1/model/model.safetensors")
    assert whole["item_embedding.weight"].shape == (1683, 8)
    lora = load_file(folder / "lora/seeds/1/model/adapter_model.safetensors")
    assert all("lora_" in name for name in lora)
    shares = {
        name: json.loads((folder / name / "seeds/1/training.json").read_text())["trainable_share"]
        for name in ("bert4rec", "lora", "ilora")
    }
    assert shares["bert4rec"] == 1
    assert 0 < shares["lora"] < shares["ilora"] < 0.1


def test_a_warm_start_says_what_it_took(smoke):
    log = (smoke.folder / "logs/smoke/train_ssept/retrain/1.log").read_text()
    assert "loaded   blocks.0.up.weight" in log
    assert "users    60 rows copied by id, 20 new here, 0 not in this data" in log
    report = json.loads((smoke.folder / "results/smoke/ssept/retrain/seeds/1/training.json").read_text())["warm_start"]
    assert report["skipped"] == []
    assert report["rows"]["items"] == {"copied": 1682, "new": 0, "left_out": 0}


def test_efficiency_is_measured(smoke):
    result = json.loads((smoke.folder / "results/smoke/bert4rec/efficiency/measurements.json").read_text())
    assert [(row["size"], row["mode"]) for row in result["rows"]] == [("tiny", "float32"), ("tiny", "bfloat16+ilora")]
    assert all(row["error"] is None and row["samples_per_second"] > 0 for row in result["rows"])
    assert result["hardware"]["cores"] >= 1


def test_the_memory_in_use_is_logged(smoke):
    history = pd.read_csv(smoke.folder / "results/smoke/ssept/ssept/seeds/1/history.csv")
    assert (history["rss_mb"] > 50).all()
    assert history["NDCG@10"].notna().sum() == 2  # a validation after each of two epochs


def test_one_key_of_one_variant_reruns_that_variant(smoke):
    def change(experiments):
        experiments["bert4rec"]["variants"]["sasrec"]["training"] = {"learning_rate": 0.002}

    plan = smoke.changed_plan(change)
    assert plan["train_recommender"] == 1
    assert plan["evaluate_recommender"] == 1
    assert plan["write_report"] == 1
    assert not {"partition_interactions", "score_recommender_baselines", "train_preference"} & set(plan)


def test_a_key_of_the_evaluation_trains_nothing(smoke):
    def change(experiments):
        experiments["ssept"]["evaluation"]["sampled_negatives"] = 30

    plan = smoke.changed_plan(change)
    assert plan["evaluate_recommender"] == 2
    assert plan["score_recommender_baselines"] == 1
    assert "train_recommender" not in plan


def test_killed_and_continued_equals_uninterrupted(smoke):
    def longer(experiments):
        experiments["ssept"]["variants"] = {
            "ssept": {"training": {"num_train_epochs": 12, "early_stopping_patience": 12}}
        }

    def target(study):
        return f"results/{study}/ssept/ssept/seeds/1/model"

    smoke.snakemake("--configfile", smoke.study("undisturbed", longer), "--", target("undisturbed"))
    study, log = smoke.study("disturbed", longer), "logs/disturbed/train_ssept/ssept/1.log"
    smoke.kill_and_continue(study, target("disturbed"), log, ": step 45/")
    whole, pieces = (f"{target(name)}/model.safetensors" for name in ("undisturbed", "disturbed"))
    assert smoke.same_weights(whole, pieces)


def test_a_broken_shard_is_named(smoke):
    shard = next((smoke.folder / "data/sequences/movielens-100k").rglob("training/part_000.npz"))
    original = shard.read_bytes()
    shard.write_bytes(original[: len(original) // 2])
    try:
        folder = shard.parents[1]
        result = smoke.run(
            "python",
            "workflow/scripts/train_ssept.py",
            *("--config", "results/smoke/ssept/ssept/settings/training.yaml", "--seed", "1"),
            *("--sequences", str(folder), "--checkpoints", "checkpoints/broken", "--model", "broken/x/y/model"),
            *("--history", "broken/history.csv", "--training", "broken/training.json"),
            check=False,
        )
    finally:
        shard.write_bytes(original)
    assert result.returncode == 1
    assert "training/part_000.npz" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (smoke.folder / "broken").exists()
