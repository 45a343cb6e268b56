"""Metrics of binary preferences, and their bootstrap intervals.

Every pair is asked twice, with the liked film as Option A and as Option B. ``p_liked_a`` is the
probability of "A" where A is right, ``p_liked_b`` the probability of "A" where B is right, both
normalised over A and B; arrays of n values, one a pair.
"""

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pandas as pd

from frugal.stats import auc, bootstrap, percentile_interval

#: The columns that identify a test pair in files of different systems.
PAIR = ["user", "kind", "liked", "other"]


def preference_metrics(
    p_liked_a: np.ndarray, p_liked_b: np.ndarray, bins: int = 10, weights: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Metrics over both orders of n pairs.

    Args:
        weights: (..., n), the number of times that each pair counts; None for once.

    Returns:
        Values of shape (...), scalars without weights:
        accuracy: share of the 2n questions answered rightly; an exact tie counts one half.
        accuracy_liked_first: the same over the questions whose right answer is A, which is all
            that a test set with a fixed answer position would show.
        swap_consistency: share of pairs for which the same film is chosen in both orders.
        p_a: mean probability of answering A; 0.5 without a position bias.
        auc: area under the ROC curve of P(A) as a score for "A is right".
        brier: mean squared error of P(A) against the truth (0 best, 0.25 for a constant 0.5).
        ece: expected calibration error of P(A), over ``bins`` equal bins.
    """
    weights = np.ones(len(p_liked_a)) if weights is None else weights
    first, second = _right(p_liked_a, p_liked_b)
    truth = np.concatenate([np.ones_like(p_liked_a), np.zeros_like(p_liked_b)])
    probability = np.concatenate([p_liked_a, p_liked_b])
    both_orders = np.concatenate([weights, weights], axis=-1)

    def mean(values: np.ndarray) -> np.ndarray:
        return weights @ values / weights.sum(-1)

    return {
        "accuracy": mean((first + second) / 2),
        "accuracy_liked_first": mean(first),
        "swap_consistency": mean(first == second),
        "p_a": mean((p_liked_a + p_liked_b) / 2),
        "auc": auc(truth, probability, both_orders),
        "brier": mean(((1 - p_liked_a) ** 2 + p_liked_b**2) / 2),
        "ece": expected_calibration_error(truth, probability, bins, both_orders),
    }


def _right(p_liked_a: np.ndarray, p_liked_b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether the questions with the liked film first and second are answered rightly: 1, 0, or 0.5 for a tie."""
    return np.heaviside(p_liked_a - 0.5, 0.5), np.heaviside(0.5 - p_liked_b, 0.5)


def pair_accuracy(predictions: pd.DataFrame) -> pd.Series:
    """The share of each pair's two questions answered rightly, by `PAIR`; an exact tie counts one half."""
    first, second = _right(predictions["p_liked_a"], predictions["p_liked_b"])
    accuracy = ((first + second) / 2).set_axis(pd.MultiIndex.from_frame(predictions[PAIR]))
    return accuracy[~accuracy.index.duplicated()]


def expected_calibration_error(
    truth: np.ndarray, probability: np.ndarray, bins: int = 10, weights: np.ndarray | None = None
) -> np.ndarray:
    """Mean gap between stated and observed probability, weighted by bin size (Naeini et al., 2015).

    Args:
        truth, probability: (n,).
        weights: (..., n), the number of times that each row counts; None for once.

    Returns:
        (...).
    """
    weights = np.ones(len(truth)) if weights is None else weights
    in_bin = np.minimum((probability * bins).astype(int), bins - 1)[:, None] == np.arange(bins)
    gaps = weights @ (in_bin * (probability - truth)[:, None])
    return np.abs(gaps).sum(-1) / weights.sum(-1)


def by_difficulty(table: pd.DataFrame, compute: Callable[[pd.DataFrame], dict[str, Any]]) -> dict[str, Any]:
    """``compute`` over all pairs, then over the easy and the hard ones under names such as `accuracy_easy`."""
    values = dict(compute(table))
    for difficulty, rows in table.groupby("kind"):
        values |= {f"{name}_{difficulty}": value for name, value in compute(rows).items()}
    return values


def metrics_with_intervals(
    table: pd.DataFrame, samples: int, seed: int, bins: int = 10, without: Collection[str] = ()
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Metrics of all pairs and of each difficulty, and their bootstrap intervals over users.

    Args:
        table: one row a pair, with the columns kind, user, p_liked_a and p_liked_b.
        without: the metrics that the system does not have.
    """

    def metrics(rows: pd.DataFrame, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
        values = preference_metrics(rows["p_liked_a"].to_numpy(), rows["p_liked_b"].to_numpy(), bins, weights)
        return {name: value for name, value in values.items() if name not in without}

    def intervals(rows: pd.DataFrame) -> dict[str, list[float]]:
        users, user_of_pair = np.unique(rows["user"], return_inverse=True)
        draws = bootstrap(lambda counts: metrics(rows, counts[:, user_of_pair]), np.ones(len(users)), samples, seed)
        return {name: percentile_interval(values) for name, values in draws.items()}

    return by_difficulty(table, metrics), by_difficulty(table, intervals)
