"""Metrics against values worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugal.preference.metrics import (
    by_difficulty,
    expected_calibration_error,
    metrics_with_intervals,
    pair_accuracy,
    preference_metrics,
)

probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=30)


def test_preference_metrics_by_hand():
    # Pair 1: right in both orders. Pair 2: says A both times. Pair 3: wrong in both orders. Pair 4: undecided.
    metrics = preference_metrics(np.array([0.9, 0.8, 0.2, 0.5]), np.array([0.1, 0.7, 0.6, 0.5]))
    assert metrics["accuracy"] == pytest.approx((1 + 1 + 0 + 0.5 + 1 + 0 + 0 + 0.5) / 8)
    assert metrics["accuracy_liked_first"] == pytest.approx(2.5 / 4)
    assert metrics["swap_consistency"] == pytest.approx(3 / 4)
    assert metrics["p_a"] == pytest.approx(4.3 / 8)
    # (A right, B right) comparisons: .9 beats 4; .8 beats 4; .2 beats .1; .5 beats .1 and ties with .5.
    assert metrics["auc"] == pytest.approx((4 + 4 + 1 + 1.5) / 16)
    assert metrics["brier"] == pytest.approx((0.01 + 0.04 + 0.64 + 0.25 + 0.01 + 0.49 + 0.36 + 0.25) / 8)


def test_always_a_is_perfect_only_where_a_is_right():
    metrics = preference_metrics(np.ones(10), np.ones(10))
    assert metrics["accuracy_liked_first"] == 1
    assert metrics["accuracy"] == 0.5
    assert metrics["swap_consistency"] == 0
    assert metrics["auc"] == 0.5
    assert metrics["p_a"] == 1


def test_calibration_error_by_hand():
    # Bin [0, .5): stated .2, observed 1/2; bin [.5, 1]: stated .8, observed 1.
    error = expected_calibration_error(np.array([0, 1, 1, 1]), np.array([0.1, 0.3, 0.6, 1.0]), bins=2)
    assert error == pytest.approx(0.5 * 0.3 + 0.5 * 0.2)


@given(probabilities)
def test_a_baseline_that_ignores_the_order_is_consistent_and_unbiased(p):
    p = np.array(p)
    metrics = preference_metrics(p, 1 - p)
    assert metrics["swap_consistency"] == 1
    assert metrics["accuracy"] == pytest.approx(metrics["accuracy_liked_first"])
    assert metrics["p_a"] == pytest.approx(0.5)


@given(probabilities, st.randoms(use_true_random=False))
def test_metrics_are_bounded_and_do_not_depend_on_the_order_of_pairs(p, random):
    q = [random.random() for _ in p]
    order = list(range(len(p)))
    random.shuffle(order)
    p, q = np.array(p), np.array(q)
    metrics, shuffled = preference_metrics(p, q), preference_metrics(p[order], q[order])
    for name, value in metrics.items():
        assert 0 <= value <= 1, name
        assert shuffled[name] == pytest.approx(value), name


def test_weights_are_repeated_pairs():
    rng = np.random.default_rng(0)
    p, q, weights = rng.integers(0, 5, 20) / 4, rng.integers(0, 5, 20) / 4, rng.integers(0, 4, (3, 20))
    weighted = preference_metrics(p, q, weights=weights)
    for row in range(3):
        expected = preference_metrics(np.repeat(p, weights[row]), np.repeat(q, weights[row]))
        assert {name: values[row] for name, values in weighted.items()} == pytest.approx(expected)


def test_accuracy_of_a_pair_counts_both_orders_and_half_a_tie():
    table = pd.DataFrame({"user": 1, "kind": "easy", "liked": [3, 4, 5, 3], "other": 9})
    table = table.assign(p_liked_a=[0.9, 0.9, 0.5, 0.1], p_liked_b=[0.1, 0.9, 0.5, 0.9])
    # The last row is the first pair again.
    assert pair_accuracy(table).to_dict() == {
        (1, "easy", 3, 9): 1, (1, "easy", 4, 9): 0.5, (1, "easy", 5, 9): 0.5,
    }  # fmt: skip


def test_intervals_resample_whole_users():
    """User 1 has three right pairs, user 2 a wrong one: with two users both draws may be the same one."""
    table = pd.DataFrame({"kind": "easy", "user": [1, 1, 1, 2], "p_liked_a": [0.9, 0.9, 0.9, 0.1]})
    metrics, intervals = metrics_with_intervals(table.assign(p_liked_b=1 - table["p_liked_a"]), samples=500, seed=0)
    assert metrics["accuracy"] == 0.75
    assert intervals["accuracy"] == intervals["auc"] == [0, 1]


def test_intervals_are_as_wide_as_theory_says():
    p = np.random.default_rng(0).random(400)
    table = pd.DataFrame({"kind": "easy", "user": range(400), "p_liked_a": p, "p_liked_b": p})
    low, high = metrics_with_intervals(table, samples=2000, seed=1)[1]["p_a"]
    assert high - low == pytest.approx(2 * 1.96 * p.std() / 20, rel=0.1)


def test_by_difficulty_names_the_subsets():
    table = pd.DataFrame({"kind": ["easy", "hard", "easy"], "x": [1.0, 5.0, 3.0]})
    assert by_difficulty(table, lambda rows: {"mean": rows["x"].mean()}) == {
        "mean": 3.0,
        "mean_easy": 2.0,
        "mean_hard": 5.0,
    }


def test_metrics_and_intervals_have_the_same_names():
    table = pd.DataFrame(
        {
            "kind": ["easy", "hard", "easy"],
            "user": [1, 2, 2],
            "p_liked_a": [0.9, 0.2, 0.8],
            "p_liked_b": [0.1, 0.1, 0.6],
        }
    )
    metrics, intervals = metrics_with_intervals(table, samples=100, seed=0)
    assert metrics["accuracy"] == pytest.approx(4 / 6)
    assert metrics["accuracy_easy"] == pytest.approx(3 / 4)
    assert metrics["accuracy_hard"] == pytest.approx(1 / 2)
    assert set(metrics) == set(intervals)
    assert all(low <= high for low, high in intervals.values())
    without = metrics_with_intervals(table, samples=100, seed=0, without=("brier",))
    assert all(set(values) == set(metrics) - {"brier", "brier_easy", "brier_hard"} for values in without)
