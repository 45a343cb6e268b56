"""Krippendorff's alpha against published and hand-worked values."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from frugal.rating.agreement import krippendorff_alpha

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


@pytest.mark.parametrize(
    ("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849), ("ratio", 0.797)]
)
def test_published_example(level, alpha):
    assert krippendorff_alpha(PUBLISHED, level) == pytest.approx(alpha, abs=5e-4)


def test_two_raters_by_hand():
    # Units (1, 1), (2, 2), (1, 2): coincidences o11 = 2, o22 = 2, o12 = o21 = 1; totals 3 and 3 of 6.
    # D_o = 2/6, D_e = 2 x 9 / (6 x 5) = .6, alpha = 1 - (1/3) / .6 = 4/9.
    table = np.array([[1, 2, 1], [1, 2, 2]], float)
    assert krippendorff_alpha(table, "nominal") == pytest.approx(4 / 9)


def test_undefined_without_pairs_or_variation():
    assert krippendorff_alpha(np.array([[1, 2, 3.0]]), "ordinal") is None
    assert krippendorff_alpha(np.array([[1, NONE], [NONE, 2]]), "ordinal") is None
    assert krippendorff_alpha(np.full((3, 4), 5.0), "ordinal") is None


@given(ratings, st.sampled_from(["nominal", "ordinal", "interval", "ratio"]), st.permutations(range(3)))
def test_order_of_raters_does_not_matter_and_agreement_is_at_most_one(table, level, order):
    alpha = krippendorff_alpha(table, level)
    assume(alpha is not None)
    assert alpha <= 1 + 1e-12
    assert krippendorff_alpha(table[order], level) == pytest.approx(alpha)
    same = np.repeat(table[:1], 3, axis=0)
    assert krippendorff_alpha(same, level) in (None, pytest.approx(1))


@given(ratings)
def test_only_the_order_of_values_counts_for_an_ordinal_scale(table):
    alpha = krippendorff_alpha(table, "ordinal")
    assume(alpha is not None)
    assert krippendorff_alpha(table**3, "ordinal") == pytest.approx(alpha)
