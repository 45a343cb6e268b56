"""Metrics against values worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugal.metrics import auc, bootstrap_intervals, by_kind, expected_calibration_error, preference_metrics, summarise

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


def test_auc_counts_ties_one_half_and_is_undefined_for_one_class():
    assert auc(np.array([1, 0, 1, 0]), np.array([0.8, 0.8, 0.3, 0.1])) == pytest.approx((0.5 + 1 + 0 + 1) / 4)
    assert np.isnan(auc(np.ones(3), np.arange(3)))


def test_calibration_error_by_hand():
    # Bin [0, .5): stated .2, observed 1/2; bin [.5, 1]: stated .8, observed 1.
    error = expected_calibration_error(np.array([0, 1, 1, 1]), np.array([0.1, 0.3, 0.6, 1.0]), bins=2)
    assert error == pytest.approx(0.5 * 0.3 + 0.5 * 0.2)


@given(probabilities)
def test_a_rule_that_ignores_the_order_is_consistent_and_unbiased(p):
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


def test_bootstrap_interval_holds_the_mean_and_draws_whole_users():
    values = np.array([1.0, 1.0, 1.0, 0.0])
    users = np.array([1, 1, 1, 2])

    def mean(x):
        return {"mean": x.mean()}

    interval = bootstrap_intervals(mean, values, groups=users, samples=500, seed=0)["mean"]
    assert interval == [0.0, 1.0]  # two users: both draws may be the same one
    again = bootstrap_intervals(mean, values, groups=users, samples=500, seed=0)["mean"]
    assert again == interval


def test_bootstrap_interval_is_as_wide_as_theory_says():
    values = np.random.default_rng(0).random(400)
    low, high = bootstrap_intervals(lambda x: {"mean": x.mean()}, values, groups=np.arange(400), samples=2000, seed=1)[
        "mean"
    ]
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_by_kind_names_the_subsets():
    table = pd.DataFrame({"kind": ["easy", "hard", "easy"], "x": [1.0, 5.0, 3.0]})
    assert by_kind(table, lambda rows: {"mean": rows["x"].mean()}) == {
        "mean": 3.0,
        "mean_easy": 2.0,
        "mean_hard": 5.0,
    }


def test_summarise_names_metrics_and_intervals_alike():
    table = pd.DataFrame(
        {
            "kind": ["easy", "hard", "easy"],
            "user": [1, 2, 2],
            "p_liked_a": [0.9, 0.2, 0.8],
            "p_liked_b": [0.1, 0.1, 0.6],
        }
    )
    metrics, intervals = summarise(table, preference_metrics, samples=100, seed=0)
    assert metrics["accuracy"] == pytest.approx(4 / 6)
    assert metrics["accuracy_easy"] == pytest.approx(3 / 4)
    assert metrics["accuracy_hard"] == pytest.approx(1 / 2)
    assert set(metrics) == set(intervals)
    assert all(low <= high for low, high in intervals.values())
