"""Paired comparisons, by numbers worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frugal.report.statistics import (
    compare,
    compare_cases,
    compare_users,
    holm,
    pair_accuracy,
    standardised,
    verdict,
    wilson,
    with_verdicts,
)


def pairs(users, right_first, right_second, kind="easy"):
    """Predictions that are right (or not) with the liked film first and second."""
    return pd.DataFrame(
        {
            "user": users,
            "kind": kind,
            "liked": range(len(users)),
            "other": range(100, 100 + len(users)),
            "p_liked_a": np.where(right_first, 0.9, 0.1),
            "p_liked_b": np.where(right_second, 0.1, 0.9),
        }
    )


def test_accuracy_of_a_pair_counts_both_orders_and_half_a_tie():
    table = pairs([1, 1, 2], [True, True, False], [True, False, False])
    assert pair_accuracy(table).tolist() == [1, 0.5, 0]
    assert pair_accuracy(table.assign(p_liked_a=0.5, p_liked_b=0.5)).tolist() == [0.5] * 3


def test_difference_is_over_common_pairs_only():
    first = pairs([1, 1, 2, 2], [True] * 4, [True, True, True, False])
    second = pairs([1, 1, 2, 2], [True, False, True, False], [True, False, False, False]).iloc[:3]
    found = compare(first, second, samples=500)
    # common pairs: 1 - 1, 1 - 0, 1 - .5
    assert found.pairs == 3
    assert found.users == 2
    assert found.difference == pytest.approx(0.5)
    assert found.lower <= 0.5 <= found.upper


@pytest.mark.usefixtures("always_resampled")
def test_resampling_users_gives_the_exact_distribution():
    """Two users with differences 1 and 0: the mean is 0, 1/2, 1 with probability 1/4, 1/2, 1/4."""
    first = pairs([1, 2], [True, True], [True, True])
    second = pairs([1, 2], [False, True], [False, True])
    found = compare(first, second, samples=20_000)
    assert (found.lower, found.upper) == (0, 1)
    assert found.p == pytest.approx(2 * 0.25, abs=0.02)


def test_same_system_differs_by_nothing_and_the_same_seed_gives_the_same_numbers(synthetic):
    table = synthetic.predictions(1, 0, 0)
    same = compare(table, table, samples=200)
    assert (same.difference, same.lower, same.upper, same.p) == (0, 0, 0, 1)
    other = synthetic.predictions(0, 0, 1)
    assert compare(table, other, samples=200) == compare(table, other, samples=200)
    swapped = compare(other, table, samples=200)
    assert swapped.difference == pytest.approx(-compare(table, other, samples=200).difference)


def test_effect_sizes_by_hand():
    # Differences 1, 0 and 2 of a user each: mean 1, standard deviation 1.
    assert standardised(np.array([1.0, 0.0, 2.0])) == 1
    assert standardised(np.array([-1.0, 0.0, -2.0])) == -1
    assert standardised(np.array([0.5, 0.5])) is None  # all the same: no spread to divide by
    assert standardised(np.array([0.5])) is None
    first, second = pd.Series({1: 1.0, 2: 0.5, 3: 1.0}), pd.Series({1: 0.0, 2: 0.5, 3: -1.0})
    assert compare_users(first, second, samples=100).effect == pytest.approx(1)
    # User 1 has two pairs, with differences 1 and 0, user 2 one with 1: means .5 and 1.
    first, second = (
        pairs([1, 1, 2], [True] * 3, [True] * 3),
        pairs([1, 1, 2], [False, True, False], [False, True, False]),
    )
    assert compare(first, second, samples=100).effect == pytest.approx(0.75 / np.std([0.5, 1], ddof=1))


@pytest.mark.parametrize(
    ("successes", "trials", "bounds"),
    [(0, 20, (0, 0.1611)), (20, 20, (0.8389, 1)), (5, 20, (0.1119, 0.4687)), (81, 263, (0.2553, 0.3662))],
)
def test_wilson_intervals_as_published(successes, trials, bounds):
    """81 of 263 is the example of Newcombe (1998), table I."""
    assert wilson(successes, trials) == pytest.approx(bounds, abs=5e-5)


def test_few_cases_are_compared_by_student():
    # Gains of 1, 2 and 3 a user: mean 2, standard error 1 / sqrt(3), t = 3.4641 with 2 degrees of freedom.
    found = compare_users(pd.Series([1.0, 2.0, 3.0]), pd.Series([0.0, 0.0, 0.0]))
    assert found.difference == 2
    assert found.lower == pytest.approx(2 - 4.302653 / 3**0.5)
    assert found.upper == pytest.approx(2 + 4.302653 / 3**0.5)
    assert found.p == pytest.approx(0.0741799)
    # Sums 1 and 0 over counts 1 and 3: ratio 1/4, residuals 3/4 and -3/4, standard error sqrt(2 x 18/16) / 4.
    found = compare_cases(np.array([[1.0, 1.0], [0.0, 3.0]]), 4)
    assert found.difference == 0.25
    assert (found.upper - found.lower) / 2 == pytest.approx(12.706205 * 1.5 / 4)


def test_few_cases_that_differ_alike_are_told_by_their_signs():
    zeros = pd.Series(np.zeros(4))
    assert compare_users(zeros + 1, zeros).p == 2 / 2**4
    assert compare_users(zeros, zeros).p == 1
    assert np.isnan(compare_users(zeros[:1] + 1, zeros[:1]).p)


def test_two_documents_prove_nothing_that_ten_would():
    gains = np.array([[0.10, 1.0], [0.14, 1.0]])
    assert compare_cases(gains, 2).p > 0.05
    assert compare_cases(np.tile(gains, (5, 1)), 10).p < 0.001


@pytest.mark.usefixtures("always_resampled")
def test_users_are_compared_by_one_value_each():
    first, second = pd.Series({1: 1.0, 2: 0.5, 3: 0.2}), pd.Series({2: 0.5, 1: 0.0, 9: 1.0})
    found = compare_users(first, second, samples=20_000)
    # users 1 and 2 are common: 1 - 0 and .5 - .5; their mean is 0, 1/2, 1 with probability 1/4, 1/2, 1/4
    assert (found.users, found.difference) == (2, 0.5)
    assert (found.lower, found.upper) == (0, 1)
    assert found.p == pytest.approx(2 * 0.25, abs=0.02)
    assert compare_users(first, second.rename({1: 7, 2: 8})) is None


@settings(max_examples=30, deadline=None, database=None)
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=30), st.integers(0, 2**32 - 1))
def test_swapping_users_sides_mirrors_the_comparison(values, seed):
    first = pd.Series(values)
    second = first.sample(frac=1, random_state=seed % 2**31).reset_index(drop=True)
    one, other = compare_users(first, second, samples=300), compare_users(second, first, samples=300)
    assert one.difference == -other.difference
    assert one.lower <= one.difference <= one.upper
    assert 0 < one.p <= 1


def test_a_verdict_needs_a_comparison():
    frame = pd.DataFrame({"difference": [0.2, np.nan], "lower": [0.1, np.nan], "upper": [0.3, np.nan], "verdict": None})
    told = with_verdicts(frame.assign(p=[0.01, np.nan]))
    assert told["verdict"].tolist()[0] == "better"
    assert pd.isna(told["verdict"].iloc[1])
    assert {"difference_lower", "difference_upper"} <= set(told)
    assert with_verdicts(frame)["verdict"].isna().all()


def test_no_common_pair_is_no_comparison():
    table = pairs([1], [True], [True])
    assert compare(table, table.assign(liked=99)) is None


def test_holm_by_hand():
    adjusted = holm(pd.Series([0.01, 0.04, 0.03, np.nan], index=list("abcd")))
    # sorted .01 .03 .04 times 3 2 1, then never falling
    assert adjusted[["a", "c", "b"]].tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert np.isnan(adjusted["d"])
    assert holm(pd.Series([0.9, 0.8])).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((0.1, 0.02, 0.2, 0.01), "better"),
        ((-0.1, -0.2, -0.02, 0.01), "worse"),
        ((0.1, -0.02, 0.2, 0.01), "no difference found"),
        ((0.1, 0.02, 0.2, 0.06), "no difference found"),
        ((0.0, 0.0, 0.0, 0.01), "no difference found"),
    ],
)
def test_words_follow_from_the_numbers(numbers, expected):
    assert verdict(*numbers) == expected
