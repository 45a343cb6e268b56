"""Ranking metrics against values worked out by hand, and against their definitions in plain loops."""

from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugal.recsys.ranking_metrics import best_ranks, ranking_metrics


def test_one_target_a_user():
    # NDCG@10 of rank 1 is 1 / log2(2) = 1, of rank 3 is 1 / log2(4) = 0.5; rank 11 is outside.
    metrics = ranking_metrics(np.array([1, 3, 11]), np.array([0, 1, 2, 3]), (2, 10))
    assert metrics["HR@10"].tolist() == [1, 1, 0]
    assert metrics["HR@2"].tolist() == [1, 0, 0]
    assert metrics["NDCG@10"] == pytest.approx([1, 0.5, 0])
    assert metrics["NDCG@2"] == pytest.approx([1, 0, 0])
    assert metrics["MRR"] == pytest.approx([1, 1 / 3, 1 / 11])
    assert metrics["recall@10"].tolist() == metrics["HR@10"].tolist()


def test_several_targets_a_user():
    # User 0 has targets on the ranks 12, 1 and 3; user 1 one target on rank 2.
    ranks, offsets = np.array([12, 1, 3, 2]), np.array([0, 3, 4])
    metrics = ranking_metrics(ranks, offsets, (2, 10))
    # Within 10: gains 1 + 1 / log2(4) = 1.5, at best 1 + 1 / log2(3) + 1 / log2(4) = 2.13093.
    # Within 2: gain 1, at best 1 + 1 / log2(3) = 1.63093: three targets do not fit two places.
    assert metrics["NDCG@10"] == pytest.approx([1.5 / 2.13093, 0.63093], abs=1e-5)
    assert metrics["NDCG@2"] == pytest.approx([1 / 1.63093, 0.63093], abs=1e-5)
    assert metrics["recall@10"] == pytest.approx([2 / 3, 1])
    assert metrics["recall@2"] == pytest.approx([1 / 3, 1])
    assert metrics["HR@2"].tolist() == [1, 1]
    assert metrics["MRR"] == pytest.approx([1, 1 / 2])
    assert best_ranks(ranks, offsets).tolist() == [1, 2]


def test_the_best_possible_ranking_has_an_ndcg_of_one_at_every_cutoff():
    metrics = ranking_metrics(np.array([3, 1, 2]), np.array([0, 3]), (1, 2, 3, 20))
    assert [metrics[f"NDCG@{k}"][0] for k in (1, 2, 3, 20)] == pytest.approx([1, 1, 1, 1])


@given(st.lists(st.sets(st.integers(1, 30), min_size=1, max_size=8), min_size=1, max_size=6), st.integers(1, 25))
def test_definitions(users, k):
    offsets = np.cumsum([0, *(len(ranks) for ranks in users)])
    metrics = ranking_metrics(np.concatenate([list(ranks) for ranks in users]), offsets, (k,))
    for n, ranks in enumerate(users):
        hits = [rank for rank in ranks if rank <= k]
        ideal = sum(1 / log2(1 + place) for place in range(1, min(len(ranks), k) + 1))
        assert metrics[f"HR@{k}"][n] == bool(hits)
        assert metrics[f"recall@{k}"][n] == pytest.approx(len(hits) / len(ranks))
        assert metrics[f"NDCG@{k}"][n] == pytest.approx(sum(1 / log2(1 + rank) for rank in hits) / ideal)
        assert metrics["MRR"][n] == pytest.approx(1 / min(ranks))
