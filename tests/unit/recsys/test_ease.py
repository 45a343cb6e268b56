"""EASE against its closed form, worked out by hand."""

import numpy as np
import pytest

from frugal.recsys.ease import fit_ease


def test_two_items_by_hand():
    # Users 0 and 1 have both items, user 2 has item 0: X'X = [[3, 2], [2, 2]], lambda 1.
    # P = inv([[4, 2], [2, 3]]) = [[3, -2], [-2, 4]] / 8, so B_01 = -P_01 / P_11 = 2/4 and B_10 = 2/3.
    weights = fit_ease(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 0]), item_count=2, regularisation=1)
    assert weights == pytest.approx(np.array([[0, 1 / 2], [2 / 3, 0]]))


def test_repeated_interactions_count_once_and_unknown_items_have_no_weight():
    once = fit_ease(np.array([7, 7, 9]), np.array([0, 1, 0]), item_count=3)
    twice = fit_ease(np.array([7, 7, 7, 9]), np.array([0, 1, 1, 0]), item_count=3)
    assert once == pytest.approx(twice)
    assert once[2] == pytest.approx(np.zeros(3))
    assert once[:, 2] == pytest.approx(np.zeros(3))
    assert np.diag(once) == pytest.approx(np.zeros(3))
