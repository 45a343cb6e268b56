"""Beyond accuracy: groups, coverage, popularity and novelty by hand, and the scripts that write them."""

import sys
from math import log2

import numpy as np
import pandas as pd
import pytest
import torch

import evaluate_recommender
import score_recommender_baselines
from frugal.config.base import plain
from frugal.config.recommendation import RecommendationRun
from frugal.config.study import dump_yaml
from frugal.files import read_json, write_json
from frugal.kinds import RECOMMENDATION
from frugal.recsys.adapters import save_trained
from frugal.recsys.beyond_accuracy import (
    ITEM_GROUPS,
    gini,
    group_values,
    history_groups,
    item_groups,
    popularity,
    summarise_lists,
)
from frugal.recsys.evaluation import Evaluation, evaluate
from frugal.recsys.histories import Histories, Split
from frugal.recsys.shards import write_shards


def histories(*rows: list[int]) -> Histories:
    users = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    return Histories.from_pairs(users, np.array([item for row in rows for item in row], np.int32), len(rows))


def lists(*rows: list[int]) -> Evaluation:
    """Of an evaluation, what lists are described by."""
    nothing = np.zeros(len(rows), np.int64)
    return Evaluation(np.arange(len(rows)), nothing, nothing, np.array(rows), {}, {}, {})


@pytest.fixture
def split() -> Split:
    """Four users; of five items 0 is in four training parts, 1 in two, 2 in one, 3 and 4 in none. Two test users."""
    return Split(histories([0], [0], [0, 1], [0, 1, 2]), histories([], [], [], []), histories([2], [3], [], []), 5)


def named_groups(popular: list[int]) -> list[str]:
    return [ITEM_GROUPS[group] for group in item_groups(np.array(popular))]


def test_head_and_tail_have_a_fifth_of_the_interactions_each():
    # Of 20 interactions a fifth is 4: item 0 alone passes it; the last two of those that anyone has have 2.
    assert named_groups([10, 5, 3, 1, 1, 0]) == ["head", "mid", "mid", "tail", "tail", "cold"]
    # Exactly a fifth: the item with 2 of 10 is the tail, and the 2 next to the head's 4 are not in the head.
    assert named_groups([4, 4, 2]) == ["head", "head", "tail"]


def test_items_of_equal_popularity_are_in_one_group():
    assert named_groups([2, 2, 2]) == ["head"] * 3
    # Three items with one user each have 3 of 10, more than a fifth: none of them is in the tail.
    assert named_groups([7, 1, 1, 1]) == ["head", "mid", "mid", "mid"]
    assert named_groups([0, 0]) == ["cold", "cold"]


def test_histories_are_cut_into_quarters():
    groups, names = history_groups(np.array([8, 1, 2, 3, 4, 5, 6, 7]))
    assert names == ["1 to 2", "3 to 4", "5 to 6", "7 to 8"]
    assert groups.tolist() == [3, 0, 0, 1, 1, 2, 2, 3]


def test_users_of_equal_length_are_in_one_group():
    assert history_groups(np.array([5, 5, 5]))[1] == ["5"]
    groups, names = history_groups(np.array([1, 1, 1, 1200]))
    assert (groups.tolist(), names) == ([0, 0, 0, 1], ["1", "1,200"])


def test_gini_by_hand():
    # Shares 0, 0, 1/4, 3/4: (-3 * 0 - 1 * 0 + 1/4 + 3 * 3/4) / 3.
    assert gini(np.array([3, 0, 1, 0])) == pytest.approx(2.5 / 3)
    assert gini(np.array([2, 2, 2])) == pytest.approx(0)
    assert gini(np.array([0, 7, 0])) == pytest.approx(1)
    assert gini(np.array([4])) == 0


def test_popularity_counts_each_user_once():
    repeated = Split(histories([0, 0, 1], [0]), histories([], []), histories([1], [1]), 3)
    assert popularity(repeated).tolist() == [2, 1, 0]


def test_lists_by_hand(split):
    record, values = summarise_lists({7: lists([1, 2], [3, 1])}, split, "auto", 50)
    metrics = record["metrics"]
    assert metrics["coverage@10"] == pytest.approx(3 / 5)
    # Counts 0, 0, 1, 1, 2 of 4: (0 * 1/4 + 2 * 1/4 + 4 * 2/4) / 4.
    assert metrics["gini@10"] == pytest.approx(2.5 / 4)
    # Shares of users: items 1 and 2 have 1/2 and 1/4, item 3 none.
    assert metrics["popularity@10"] == pytest.approx((3 / 8 + 1 / 4) / 2)
    # Both histories are item 0, which everyone has.
    assert record["history_popularity@10"] == 1
    assert metrics["popularity_lift@10"] == pytest.approx(5 / 16 - 1)
    # 1 and 2 bits; the cold item counts as one that a single user has: 2 bits.
    assert metrics["novelty@10"] == pytest.approx(1.5)
    assert record["intervals"]["novelty@10"] == pytest.approx([1.5, 1.5])
    assert not {"coverage@10", "gini@10"} & record["intervals"].keys()
    assert record["items"] == {"head": 1, "mid": 1, "tail": 1, "cold": 2}
    assert (record["cases"], "std" in record) == (2, False)
    # User 0 finds item 2, of the tail, in the second place; user 1 the cold item 3 in the first.
    found = {(entry["by"], entry["group"]): entry for entry in record["groups"]}
    assert list(found) == [("history", "1"), *(("popularity", name) for name in ITEM_GROUPS)]
    assert found["popularity", "tail"]["metrics"] == pytest.approx({"HR@10": 1, "NDCG@10": 1 / log2(3)})
    assert found["popularity", "cold"]["metrics"] == {"HR@10": 1, "NDCG@10": 1}
    assert found["history", "1"]["metrics"]["NDCG@10"] == pytest.approx((1 + 1 / log2(3)) / 2)
    # An empty group is there; one of fewer than ten users has no interval.
    assert found["popularity", "head"] == {
        "by": "popularity", "group": "head", "users": 0, "metrics": {}, "intervals": {},
    }  # fmt: skip
    assert found["history", "1"]["intervals"] == {}
    assert values["user"].tolist() == [0, 1, 0, 1]


def test_seeds_are_averaged(split):
    record, values = summarise_lists({1: lists([2], [4]), 2: lists([1], [4])}, split, "auto", 20)
    # The second seed's list lacks user 0's target; nobody's has user 1's.
    assert values[values["group"] == "tail"]["HR@10"].tolist() == [0.5]
    assert record["by_seed"]["1"]["popularity@10"] == pytest.approx(1 / 8)
    assert record["metrics"]["popularity@10"] == pytest.approx((1 / 8 + 1 / 4) / 2)
    assert record["std"]["popularity@10"] == pytest.approx(1 / 8 / 2**0.5)


def test_all_targets_cold():
    split = Split(histories([0], [0]), histories([], []), histories([1], [2]), 3)
    record, _ = summarise_lists({0: lists([1, 2], [1, 2])}, split, "auto", 20)
    users = {entry["group"]: entry["users"] for entry in record["groups"] if entry["by"] == "popularity"}
    assert users == {"head": 0, "mid": 0, "tail": 0, "cold": 2}


def test_enough_users_have_an_interval():
    parts = [[0]] * 10, [[]] * 10, [[1]] * 5 + [[2]] * 5
    split = Split(*(histories(*part) for part in parts), 3)
    record, _ = summarise_lists({0: lists(*[[1]] * 10)}, split, "auto", 200)
    (entry,) = (one for one in record["groups"] if one["by"] == "history")
    assert entry["metrics"]["HR@10"] == 0.5
    low, high = entry["intervals"]["HR@10"]
    assert 0.1 <= low < 0.5 < high <= 0.9


def test_a_group_of_targets_counts_its_own_targets():
    # The user's targets are 5, in the second place and of the head, and 9, not listed and of the tail.
    targets = Histories(np.array([5, 9], np.int32), np.array([0, 2]))
    of_items = np.array([1] * 5 + [0] + [1] * 3 + [2])
    values = group_values(lists([3, 5, 1]), targets, np.array([0]), ["4"], of_items)
    found = values.set_index("group")
    second = 1 / log2(3)
    assert found.loc["4", ["HR@10", "NDCG@10"]].tolist() == pytest.approx([1, second / (1 + second)])
    assert found.loc["head", ["HR@10", "NDCG@10"]].tolist() == pytest.approx([1, second])
    assert found.loc["tail", ["HR@10", "NDCG@10"]].tolist() == [0, 0]
    assert set(found.index) == {"4", "head", "tail"}


@pytest.mark.parametrize("history", ["exclude", "keep"])
@pytest.mark.parametrize("batch_size", [3, 100])
def test_the_lists_are_those_of_the_evaluation(history, batch_size):
    """Scores with many ties, 40 users, histories of different lengths, two targets of some."""
    rng = np.random.default_rng(5)
    known = [rng.choice(30, size=rng.integers(1, 9), replace=False).tolist() for _ in range(40)]
    wanted = [rng.choice(30, size=rng.integers(1, 3), replace=False).tolist() for _ in range(40)]
    split = Split(histories(*known), histories(*[[]] * 40), histories(*wanted), 30)
    scores = rng.integers(0, 6, size=(40, 30)).astype(np.float32)

    def scorer(users, _):
        return torch.from_numpy(scores[users])

    evaluated = evaluate(scorer, split, "test", batch_size=batch_size, seed=3, history=history)
    record, values = summarise_lists({3: evaluated}, split, history, 20)
    assert evaluated.top.shape == (len(evaluated.users), 10)
    assert record["metrics"]["coverage@10"] == evaluated.metrics["coverage@10"]
    by_history = values[values["by"] == "history"].set_index("user").loc[evaluated.users]
    for metric in ("HR@10", "NDCG@10"):
        assert by_history[metric].to_numpy() == pytest.approx(evaluated.per_user[metric])


def run_script(script, monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", [script.__name__, *map(str, options)])
    script.main()


def test_the_evaluations_write_what_the_lists_hold(make_model, tmp_path, monkeypatch):
    split = Split(histories([0, 1], [2], [3, 0]), histories([2], [3], [1]), histories([3], [1], [6]), 7)
    write_shards(split, tmp_path / "shards", 1, {})
    run = RecommendationRun.model_validate(
        {"dataset": "x", "seeds": [4, 5], "model": {"architecture": "sasrec"}, "baselines": {"use": ["popularity"]}}
    )
    for stage in ("evaluation", "baselines"):
        (tmp_path / f"{stage}.yaml").write_text(dump_yaml(plain(run, RECOMMENDATION.stages[stage])))
    models = {seed: make_model("sasrec", seed) for seed in run.seeds}
    for seed, model in models.items():
        save_trained(model, run.adapter, tmp_path / f"{seed}/model")
        write_json(tmp_path / f"{seed}/training.json", {"seed": seed})
    evaluations = [evaluate(model.score, split, "test", seed=seed) for seed, model in models.items()]
    # Other tests of this process want the packages.
    monkeypatch.setattr(evaluate_recommender, "hide_unused", lambda method: None)
    common = ["--sequences", tmp_path / "shards"]
    run_script(
        evaluate_recommender, monkeypatch, "--config", tmp_path / "evaluation.yaml", *common,
        "--models", *(tmp_path / f"{seed}/model" for seed in run.seeds),
        "--training", *(tmp_path / f"{seed}/training.json" for seed in run.seeds),
        "--metrics", tmp_path / "metrics.json", "--predictions", tmp_path / "predictions.parquet", "--lists", tmp_path,
    )  # fmt: skip
    record = read_json(tmp_path / "beyond.json")
    assert list(record["by_seed"]) == ["4", "5"]
    coverage = np.mean([evaluation.metrics["coverage@10"] for evaluation in evaluations])
    assert record["metrics"]["coverage@10"] == pytest.approx(coverage)
    assert record["provenance"]["inputs"].keys() == {"config", "sequences"}
    assert pd.read_parquet(tmp_path / "groups.parquet")["user"].nunique() == 3

    options = ["--config", tmp_path / "baselines.yaml", *common, "--results", tmp_path]
    run_script(score_recommender_baselines, monkeypatch, *options)
    popular = read_json(tmp_path / "baseline_popularity/beyond.json")
    evaluated = read_json(tmp_path / "baseline_popularity/metrics.json")["metrics"]
    assert popular["metrics"]["coverage@10"] == evaluated["coverage@10"]
    left_out = read_json(tmp_path / "baseline_ease/beyond.json")
    assert (left_out["metrics"], left_out["left_out"]) == ({}, "not among baselines.use")
    assert pd.read_parquet(tmp_path / "baseline_ease/groups.parquet").empty
