"""Baselines against scores worked out by hand, and against what is known of MovieLens-100K."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import score_recommender_baselines
from frugal.config.base import plain
from frugal.config.recommendation import BASELINES, RecommendationRun
from frugal.config.registry import DATASETS_FILE, load_datasets
from frugal.config.study import dump_yaml
from frugal.data.interactions.preparation import prepare
from frugal.files import read_json
from frugal.kinds import RECOMMENDATION
from frugal.recsys import baselines, ease
from frugal.recsys.baselines import (
    UNORDERED,
    fit_baselines,
    fit_ease_weights,
    fit_item_knn,
    fit_markov,
    fit_popularity,
    linear,
    nearest_items,
)
from frugal.recsys.ease import fit_ease, interaction_matrix
from frugal.recsys.evaluation import evaluate
from frugal.recsys.histories import Histories, Split, in_time_order, leave_one_out
from frugal.recsys.shards import write_shards

ROOT = Path(__file__).parents[3]
MOVIELENS_100K = ROOT / "data/raw/movielens-100k"


def histories(*rows: list[int]) -> Histories:
    offsets = np.cumsum([0, *(len(row) for row in rows)])
    return Histories(np.array([item for row in rows for item in row], dtype=np.int32), offsets)


def score(scorer, *rows: list[int]) -> np.ndarray:
    return np.asarray(scorer(np.arange(len(rows)), [np.array(row, dtype=np.int32) for row in rows]))


def test_popularity_counts_interactions():
    scorer = fit_popularity(histories([0, 1, 0], [0]), item_count=3)
    assert score(scorer, [1], [2]).tolist() == [[3, 1, 0], [3, 1, 0]]


def test_item_knn_by_hand():
    # Users: {0, 1}, {0, 1, 2}, {0}. Norms squared 3, 2, 1; together: 0 and 1 twice, 0 and 2 once, 1 and 2 once.
    # Cosines: 2 / sqrt(6) = .8165, 1 / sqrt(3) = .5774, 1 / sqrt(2) = .7071. Item 3 was never had.
    known = histories([0, 1], [1, 0, 2], [0, 0])
    everything = fit_item_knn(known, 4, neighbours=9).toarray()
    assert everything[:3, :3] == pytest.approx(
        np.array([[0, 0.8165, 0.5774], [0.8165, 0, 0.7071], [0.5774, 0.7071, 0]]), abs=1e-4
    )
    assert not everything[3].any()
    # The nearest one of 0 is 1, of 1 it is 0, and of 2 it is 1: column 2 keeps row 1 only.
    nearest = fit_item_knn(known, 4, neighbours=1)
    assert score(linear(nearest), [0, 1])[0] == pytest.approx([0.8165, 0.8165, 0.7071, 0], abs=1e-4)
    # Shrinkage 1: 2 / (sqrt(6) + 1) = .57980.
    assert fit_item_knn(known, 4, neighbours=9, shrinkage=1).toarray()[0, 1] == pytest.approx(0.5798, abs=1e-4)


def test_neighbours_do_not_depend_on_the_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    matrix = interaction_matrix(rng.integers(40, size=300), rng.integers(25, size=300), 25)
    whole = nearest_items(matrix, 5).toarray()
    for entries in (1, 60, 200):
        monkeypatch.setattr(baselines, "BLOCK_ENTRIES", entries)
        assert nearest_items(matrix, 5).toarray().tolist() == whole.tolist()
    assert ((whole > 0).sum(axis=1) >= 5).all()


def test_recency_weighs_the_newest_occurrence():
    # History 2, 0, 2, 1: ages 0 for item 1, 1 for item 2 (its newest), 2 for item 0.
    identity = np.eye(4, dtype=np.float32)
    assert score(linear(identity, decay=0.5), [2, 0, 2, 1]) == pytest.approx(np.array([[0.25, 1, 0.5, 0]]))
    assert score(linear(identity), [2, 0, 2, 1], [3]).tolist() == [[1, 1, 1, 0], [0, 0, 0, 1]]


def test_markov_counts_steps_then_popularity():
    # Steps: 0 to 1 twice, 0 to 2 once, 1 to 0 once; none from one user to the next. Popularity 3, 2, 2, 0.
    scorer = fit_markov(histories([0, 1, 0, 1], [0, 2], [2]), item_count=4)
    scores = score(scorer, [2, 0], [1])
    assert scores == pytest.approx(np.array([[0.75, 2.5, 1.5, 0], [1.75, 0.5, 0.5, 0]]))
    # From 2 nobody has gone on: popularity alone.
    assert score(scorer, [2])[0] == pytest.approx([0.75, 0.5, 0.5, 0])


def test_nearest_items_are_those_of_the_dense_similarities():
    rng = np.random.default_rng(1)
    matrix = interaction_matrix(rng.integers(40, size=300), rng.integers(25, size=300), 26)
    counts = (matrix.T @ matrix).toarray()
    norms = np.sqrt(np.diag(counts))
    cosines = counts / np.maximum(norms[:, None] * norms, 1)
    np.fill_diagonal(cosines, 0)
    last = np.sort(cosines, axis=1)[:, -4, None]
    expected = np.where(cosines >= last - 1e-6, cosines, 0)
    assert nearest_items(matrix, 4).toarray() == pytest.approx(expected, abs=1e-6)


def test_a_large_sparse_catalogue_takes_little_time_and_memory():
    # Of 500,000 items all similarities are 2.5 * 10^11; those of items with a common user are 30,000.
    users, items = np.repeat(np.arange(1000), 6), np.random.default_rng(0).integers(500_000, size=6000)
    assert nearest_items(interaction_matrix(users, items, 500_000), 20).nnz < 31_000


def test_baselines_that_are_asked_for_and_one_that_does_not_fit(monkeypatch):
    parts = Split(histories([0, 1], [1, 2]), histories([], []), histories([2], [0]), item_count=3)
    assert list(fit_baselines(parts, use=["markov", "popularity"])) == ["popularity", "markov"]
    monkeypatch.setattr(ease, "memory_limit_mb", lambda: 0)
    found = fit_baselines(parts)
    reason = "not computed: needs 0.0 GB of memory, and has 0.0 GB"
    assert (found["ease"], found["ease_recency"]) == (reason, reason)
    assert not any(isinstance(found[name], str) for name in ("popularity", "item_knn", "markov"))
    assert not isinstance(fit_baselines(parts, ease_neighbours=2)["ease"], str)


def test_large_catalogues_get_ease_by_neighbours():
    rng = np.random.default_rng(0)
    known = Histories.from_pairs(rng.integers(30, size=200), rng.integers(12, size=200), 30)
    dense = fit_ease_weights(known, 12, regularisation=3)
    assert dense == pytest.approx(fit_ease(known.users, known.items, 12, 3), abs=1e-6)
    # With all 11 neighbours nothing is left out. Items without a common user weigh little in EASE.
    assert fit_ease_weights(known, 12, regularisation=3, neighbours=11).toarray() == pytest.approx(dense, abs=1e-5)


def test_what_needs_an_order_is_left_out_where_there_is_none():
    parts = histories([0, 1], [1, 2]), histories([], []), histories([2], [0])
    assert list(fit_baselines(Split(*parts, item_count=3))) == list(BASELINES)
    found = fit_baselines(Split(*parts, item_count=3, ordered=False))
    assert [name for name, scorer in found.items() if scorer == UNORDERED] == ["ease_recency", "markov"]


def test_validation_items_are_known_and_test_items_are_not():
    parts = Split(histories([0], [0]), histories([1], [1]), histories([2], [3]), item_count=4)
    assert score(fit_baselines(parts)["popularity"], [0])[0].tolist() == [2, 2, 0, 0]


@pytest.mark.skipif(not MOVIELENS_100K.exists(), reason="needs data/raw/movielens-100k, which `make` fetches")
def test_movielens_100k_gives_the_known_figures(tmp_path):
    # Leave-one-out, full ranking, what was seen is filtered, ties in time in the order of the file.
    anchors = {
        "popularity": (0.086, 0.044),
        "item_knn": (0.134, 0.068),
        "ease": (0.145, 0.074),
        "markov": (0.145, 0.079),
        "ease_recency": (0.204, 0.110),
    }
    entry = load_datasets(ROOT / DATASETS_FILE)["movielens-100k"].model_copy(update={"tie_order": "file"})
    files = [tmp_path / name for name in ("interactions.parquet", "items.parquet", "users.parquet", "summary.json")]
    prepare("movielens-100k", entry, MOVIELENS_100K, *files)
    table = pd.read_parquet(files[0])
    columns = (table[name].to_numpy() for name in ("user", "item", "timestamp"))
    split = leave_one_out(in_time_order(*columns, user_count=943), item_count=1682)
    for name, scorer in fit_baselines(split).items():
        metrics = evaluate(scorer, split, "test").metrics
        assert (metrics["HR@10"], metrics["NDCG@10"]) == pytest.approx(anchors[name], abs=0.003), name


def test_the_records_of_baselines(tmp_path, monkeypatch):
    # Users 0 to 19 have the items 0, 1, 2, 3 from their own number on, and then the first of them again.
    rows = [[(user + step) % 4 for step in (0, 1, 2, 3, 0)] for user in range(20)]
    users = np.repeat(np.arange(20), 5)
    write_shards(leave_one_out(Histories.from_pairs(users, np.concatenate(rows), 20), 5), tmp_path / "s", 1, {})
    baselines = {"use": ["popularity", "ease"]}
    run = RecommendationRun.model_validate({"dataset": "x", "baselines": baselines})
    (tmp_path / "config.yaml").write_text(dump_yaml(plain(run, RECOMMENDATION.stages["baselines"])))
    command = ["--config", tmp_path / "config.yaml", "--sequences", tmp_path / "s", "--results", tmp_path]
    monkeypatch.setattr(sys, "argv", ["score", *map(str, command), "--memory-mb", "0.0001"])
    score_recommender_baselines.main()
    records = {name: read_json(tmp_path / f"baseline_{name}/metrics.json") for name in BASELINES}
    popularity = records["popularity"]
    assert (popularity["cases"], popularity["history"]) == (20, "keep")
    assert popularity["targets"] == {"targets": 20, "repeated": 20, "cold": 0}
    # The other four items are as popular as the target, item 4 is not: any of four ranks.
    assert popularity["metrics"]["HR@10"] == 1
    assert 0.25 < popularity["metrics"]["MRR"] < 1
    assert records["ease"]["metrics"] == {}
    assert records["ease"]["left_out"] == "not computed: needs 0.0 GB of memory, and has 0.0 GB"
    assert records["markov"]["left_out"] == "not among baselines.use"
