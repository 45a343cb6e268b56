"""EASE against its closed form, worked out by hand."""

import numpy as np
import pytest
import scipy.sparse

from frugal.errors import FrugalError
from frugal.recsys import ease
from frugal.recsys.ease import co_occurrences, fit_ease, fit_local_ease, interaction_matrix


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


def test_a_catalogue_that_fits_no_memory_is_refused_before_it_is_tried():
    # 12 bytes * (10^7)^2 = 1.2 * 10^15 bytes.
    with pytest.raises(FrugalError, match=r"EASE over 10000000 items: not computed: needs 1200\.0 TB"):
        fit_ease(np.array([0]), np.array([0]), item_count=10**7)


def test_memory_is_what_the_machine_its_cgroup_or_the_job_has(monkeypatch):
    # 12 bytes * (500,000)^2 = 3.0 * 10^12 bytes; 12 bytes * (10,000)^2 = 1.2 * 10^9 bytes = 1144 MB.
    monkeypatch.setattr(ease, "memory_limit_mb", lambda: 16_000)
    assert ease.beyond_memory(500_000) == "not computed: needs 3.0 TB of memory, and has 16.8 GB"
    assert ease.beyond_memory(10_000) == ease.beyond_memory(10_000, granted_mb=1_145) == ""
    assert ease.beyond_memory(10_000, granted_mb=1_144) == "not computed: needs 1.2 GB of memory, and has 1.2 GB"
    monkeypatch.setattr(ease, "memory_limit_mb", lambda: 1_000)
    assert ease.beyond_memory(10_000, granted_mb=32_000) == "not computed: needs 1.2 GB of memory, and has 1.0 GB"


def test_co_occurrences_in_blocks_are_the_gram_matrix():
    # User 3 has the items 0 and 2 (0 twice), user 8 the items 2 and 4.
    matrix = interaction_matrix(np.array([3, 3, 8, 3, 8]), np.array([0, 2, 2, 0, 4]), item_count=5)
    blocks = list(co_occurrences(matrix, block=2))
    assert [len(counts) for _, counts in blocks] == [2, 2, 1]
    assert np.concatenate([counts for _, counts in blocks]).tolist() == [
        [1, 0, 1, 0, 0],
        [0, 0, 0, 0, 0],
        [1, 0, 2, 0, 1],
        [0, 0, 0, 0, 0],
        [0, 0, 1, 0, 1],
    ]


def random_interactions() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(30, size=150), rng.integers(10, size=150)


def test_with_all_items_as_neighbours_local_ease_is_ease():
    users, items = random_interactions()
    everything = scipy.sparse.csr_array(1 - np.eye(10))
    weights = fit_local_ease(interaction_matrix(users, items, 10), everything, regularisation=2.0)
    assert weights.toarray() == pytest.approx(fit_ease(users, items, 10, regularisation=2.0), abs=1e-5)


def test_local_ease_with_one_neighbour_by_hand():
    # Users {0, 1}, {0, 1}, {0}: item 1 from item 0 alone is 2 / (3 + lambda) = 2 / 4; item 0 has no neighbour.
    matrix = interaction_matrix(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 0]), item_count=2)
    neighbours = scipy.sparse.csr_array(np.array([[0.0, 0.0], [1.0, 0.0]]))
    weights = fit_local_ease(matrix, neighbours, regularisation=1.0)
    assert weights.toarray().tolist() == [[0, 0.5], [0, 0]]
