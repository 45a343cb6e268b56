"""Intervals, comparisons and agreement, by numbers worked out by hand, and against SciPy's."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import mannwhitneyu

import frugal.stats
from frugal.stats import (
    auc,
    bootstrap,
    compare,
    compare_cases,
    effect_size,
    holm,
    krippendorff_alpha,
    mean_intervals,
    percentile_interval,
    verdict,
    with_verdicts,
)

NONE = np.nan
#: Four observers, twelve units: the example of Krippendorff (2011), Computing Krippendorff's Alpha-Reliability.
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NONE, NONE, NONE],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NONE, 3],
        [NONE, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NONE],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NONE],
    ]
)
ratings = st.lists(st.tuples(*[st.integers(1, 5)] * 3), min_size=2, max_size=12).map(lambda r: np.array(r, float).T)


def test_resampled_groups_follow_the_multinomial_distribution():
    """Two groups, one of them standing for three alike: all four are drawn with the same probability."""
    drawn = bootstrap(lambda counts: {"second": counts[:, 1], "all": counts.sum(1)}, np.array([1, 3]), 20_000, 0)
    assert set(drawn["all"]) == {4}
    assert [np.mean(drawn["second"] == k) for k in range(5)] == pytest.approx(
        [1 / 256, 12 / 256, 54 / 256, 108 / 256, 81 / 256], abs=0.01
    )


def test_samples_do_not_depend_on_the_size_of_the_chunks():
    """700,000 groups are drawn in chunks of one sample, and hold the samples of one chunk of three."""
    copies = np.ones(700_000)
    drawn = bootstrap(lambda counts: {"first": counts[:, :9].sum(1), "n": np.array([len(counts)])}, copies, 3, 5)
    assert drawn["n"].tolist() == [1, 1, 1]
    together = np.random.default_rng(5).multinomial(700_000, copies / 700_000, size=3)
    assert drawn["first"].tolist() == together[:, :9].sum(1).tolist()


def test_intervals_of_means_are_scipys():
    """Percentile intervals of 400 skewed values; both have a Monte Carlo error of about .02 standard errors."""
    values = np.random.default_rng(0).exponential(size=400)
    expected = scipy_bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    found = mean_intervals({"mean": values}, 20_000, seed=0)["mean"]
    assert found == pytest.approx([expected.low, expected.high], abs=0.1 * values.std() / 20)


def test_intervals_of_ratios_of_sums_are_scipys():
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 50, 100).astype(float)
    sums = counts * rng.normal(3, 1, 100)
    table = np.column_stack([sums, counts])

    def ratio(weights):
        return {"ratio": np.divide(*(weights @ table).T)}

    found = percentile_interval(bootstrap(ratio, np.ones(100), 20_000, 0)["ratio"])
    expected = scipy_bootstrap(
        (sums, counts), lambda x, y, axis: x.sum(axis) / y.sum(axis), paired=True, n_resamples=20_000,
        method="percentile", rng=2,
    ).confidence_interval  # fmt: skip
    assert found == pytest.approx([expected.low, expected.high], abs=0.01)


def test_undefined_samples_are_left_out_of_an_interval():
    assert percentile_interval(np.array([np.nan, 1.0, 1.0])) == [1, 1]


def test_intervals_of_means():
    # 100 users, half of them 1: the mean's standard error is 0.05, so the interval is 0.5 +- 0.098, in steps of 0.01.
    values = {"half": np.arange(100) % 2.0, "always": np.ones(100)}
    intervals = mean_intervals(values, samples=4000, seed=0)
    assert intervals["half"] == pytest.approx([0.402, 0.598], abs=0.02)
    assert intervals["always"] == pytest.approx([1, 1])


def test_auc_counts_ties_one_half_and_is_undefined_for_one_class():
    assert auc(np.array([1, 0, 1, 0]), np.array([0.8, 0.8, 0.3, 0.1])) == pytest.approx((0.5 + 1 + 0 + 1) / 4)
    assert np.isnan(auc(np.ones(3), np.arange(3)))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=30))
def test_weighted_auc_is_mann_whitneys_u_of_repeated_rows(rows):
    truth, score, weights = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    repeated = weights.astype(int)
    positives = np.repeat(score[truth == 1], repeated[truth == 1])
    negatives = np.repeat(score[truth == 0], repeated[truth == 0])
    found = auc(truth, score, np.stack([weights, np.ones_like(weights)]))
    assert found[1] == pytest.approx(auc(truth, score), nan_ok=True)
    if len(positives) and len(negatives):
        u = mannwhitneyu(positives, negatives, method="asymptotic").statistic
        assert found[0] == pytest.approx(u / (len(positives) * len(negatives)))
    else:
        assert np.isnan(found[0])


@pytest.fixture
def always_resampled(monkeypatch):
    """Few cases are resampled as well: so few that all their samples can be written down."""
    monkeypatch.setattr(frugal.stats, "FEW", 0)


def pairs(users, accuracy) -> pd.Series:
    """The accuracy of each pair of a user; pairs are numbered from 0."""
    return pd.Series(accuracy, index=pd.MultiIndex.from_arrays([users, range(len(users))], names=["user", "pair"]))


def test_difference_is_over_common_pairs_only():
    first, second = pairs([1, 1, 2, 2], [1, 1, 1, 0.5]), pairs([1, 1, 2, 2], [1, 0, 0.5, 0]).iloc[:3]
    found = compare(first, second, samples=500)
    # common pairs: 1 - 1, 1 - 0, 1 - .5
    assert found.pairs == 3
    assert found.users == 2
    assert found.difference == pytest.approx(0.5)
    assert found.lower <= 0.5 <= found.upper


@pytest.mark.usefixtures("always_resampled")
def test_resampling_users_gives_the_exact_distribution():
    """Two users with differences 1 and 0: the mean is 0, 1/2, 1 with probability 1/4, 1/2, 1/4."""
    found = compare(pairs([1, 2], [1.0, 1.0]), pairs([1, 2], [0.0, 1.0]), samples=20_000)
    assert (found.lower, found.upper) == (0, 1)
    assert found.p == pytest.approx(2 * 0.25, abs=0.02)


def test_same_system_differs_by_nothing_and_the_same_seed_gives_the_same_numbers():
    rng = np.random.default_rng(0)
    first, other = (pairs(np.repeat(range(40), 4), rng.choice([0, 0.5, 1], 160)) for _ in range(2))
    same = compare(first, first, samples=200)
    assert (same.difference, same.lower, same.upper, same.p) == (0, 0, 0, 1)
    assert compare(first, other, samples=200) == compare(first, other, samples=200)
    swapped = compare(other, first, samples=200)
    assert swapped.difference == pytest.approx(-compare(first, other, samples=200).difference)


def test_effect_sizes_by_hand():
    # Differences 1, 0 and 2 of a user each: mean 1, standard deviation 1.
    assert effect_size(np.array([1.0, 0.0, 2.0])) == 1
    assert effect_size(np.array([-1.0, 0.0, -2.0])) == -1
    assert effect_size(np.array([0.5, 0.5])) is None  # all the same: no spread to divide by
    assert effect_size(np.array([0.5])) is None
    first, second = pd.Series({1: 1.0, 2: 0.5, 3: 1.0}), pd.Series({1: 0.0, 2: 0.5, 3: -1.0})
    assert compare(first, second, samples=100).effect == pytest.approx(1)
    # User 1 has two pairs, with differences 1 and 0, user 2 one with 1: means .5 and 1.
    first, second = pairs([1, 1, 2], [1.0, 1.0, 1.0]), pairs([1, 1, 2], [0.0, 1.0, 0.0])
    assert compare(first, second, samples=100).effect == pytest.approx(0.75 / np.std([0.5, 1], ddof=1))


def test_few_cases_are_compared_by_student():
    # Gains of 1, 2 and 3 a user: mean 2, standard error 1 / sqrt(3), t = 3.4641 with 2 degrees of freedom.
    found = compare(pd.Series([1.0, 2.0, 3.0]), pd.Series([0.0, 0.0, 0.0]))
    assert found.difference == 2
    assert found.lower == pytest.approx(2 - 4.302653 / 3**0.5)
    assert found.upper == pytest.approx(2 + 4.302653 / 3**0.5)
    assert found.p == pytest.approx(0.0741799)
    # Sums 1 and 0 over counts 1 and 3: ratio 1/4, residuals 3/4 and -3/4, standard error sqrt(2 x 18/16) / 4.
    found = compare_cases(np.array([[1.0, 1.0], [0.0, 3.0]]), 4)
    assert found.difference == 0.25
    assert (found.upper - found.lower) / 2 == pytest.approx(12.706205 * 1.5 / 4)


def test_few_cases_with_the_same_difference_get_the_sign_tests_p():
    zeros = pd.Series(np.zeros(4))
    assert compare(zeros + 1, zeros).p == 2 / 2**4
    assert compare(zeros, zeros).p == 1
    assert np.isnan(compare(zeros[:1] + 1, zeros[:1]).p)


def test_two_documents_prove_nothing_that_ten_would():
    gains = np.array([[0.10, 1.0], [0.14, 1.0]])
    assert compare_cases(gains, 2).p > 0.05
    assert compare_cases(np.tile(gains, (5, 1)), 10).p < 0.001


@pytest.mark.usefixtures("always_resampled")
def test_users_are_compared_by_one_value_each():
    first, second = pd.Series({1: 1.0, 2: 0.5, 3: 0.2}), pd.Series({2: 0.5, 1: 0.0, 9: 1.0})
    found = compare(first, second, samples=20_000)
    # users 1 and 2 are common: 1 - 0 and .5 - .5; their mean is 0, 1/2, 1 with probability 1/4, 1/2, 1/4
    assert (found.users, found.difference) == (2, 0.5)
    assert (found.lower, found.upper) == (0, 1)
    assert found.p == pytest.approx(2 * 0.25, abs=0.02)
    assert compare(first, second.rename({1: 7, 2: 8})) is None


@settings(max_examples=30, deadline=None, database=None)
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=30), st.integers(0, 2**32 - 1))
def test_swapping_users_sides_mirrors_the_comparison(values, seed):
    first = pd.Series(values)
    second = first.sample(frac=1, random_state=seed % 2**31).reset_index(drop=True)
    one, other = compare(first, second, samples=300), compare(second, first, samples=300)
    assert one.difference == -other.difference
    assert one.lower <= one.difference <= one.upper
    assert 0 < one.p <= 1


def test_a_verdict_needs_a_comparison():
    frame = pd.DataFrame({"difference": [0.2, np.nan], "lower": [0.1, np.nan], "upper": [0.3, np.nan], "verdict": None})
    judged = with_verdicts(frame.assign(p=[0.01, np.nan]))
    assert judged["verdict"].tolist()[0] == "better"
    assert pd.isna(judged["verdict"].iloc[1])
    assert {"difference_lower", "difference_upper"} <= set(judged)
    assert with_verdicts(frame)["verdict"].isna().all()


def test_no_common_pair_is_no_comparison():
    assert compare(pairs([1], [1.0]), pairs([2], [1.0])) is None


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


def test_alpha_of_the_published_example():
    assert krippendorff_alpha(PUBLISHED) == pytest.approx(0.815, abs=5e-4)


def test_alpha_of_two_raters_by_hand():
    # Units (1, 1), (2, 2), (1, 2): coincidences o11 = 2, o22 = 2, o12 = o21 = 1; totals 3 and 3 of 6.
    # D_o = 2/6, D_e = 2 x 9 / (6 x 5) = .6, alpha = 1 - (1/3) / .6 = 4/9: with two values every scale is nominal.
    assert krippendorff_alpha(np.array([[1, 2, 1], [1, 2, 2]], float)) == pytest.approx(4 / 9)


def test_alpha_is_undefined_without_pairs_or_variation():
    assert krippendorff_alpha(np.array([[1, 2, 3.0]])) is None
    assert krippendorff_alpha(np.array([[1, NONE], [NONE, 2]])) is None
    assert krippendorff_alpha(np.full((3, 4), 5.0)) is None


@given(ratings, st.permutations(range(3)))
def test_order_of_raters_does_not_change_alpha_and_it_is_at_most_one(table, order):
    alpha = krippendorff_alpha(table)
    assume(alpha is not None)
    assert alpha <= 1 + 1e-12
    assert krippendorff_alpha(table[order]) == pytest.approx(alpha)
    assert krippendorff_alpha(np.repeat(table[:1], 3, axis=0)) in (None, pytest.approx(1))


@given(ratings)
def test_only_the_order_of_values_counts_for_alpha(table):
    alpha = krippendorff_alpha(table)
    assume(alpha is not None)
    assert krippendorff_alpha(table**3) == pytest.approx(alpha)
