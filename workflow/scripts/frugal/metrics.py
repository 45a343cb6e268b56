"""Metrics of binary preferences, and bootstrap intervals.

Every pair is asked twice, with the liked film as Option A and as Option B. ``p_liked_a`` is the
probability of "A" where A is right, ``p_liked_b`` the probability of "A" where B is right, both
normalised over A and B; arrays of n values, one a pair.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata


def preference_metrics(p_liked_a: np.ndarray, p_liked_b: np.ndarray, bins: int = 10) -> dict[str, float]:
    """Metrics over both orders of n pairs.

    Returns:
        accuracy: share of the 2n questions answered rightly; an exact tie counts one half.
        accuracy_liked_first: the same over the questions whose right answer is A, which is all
            that a test set with a fixed answer position would show.
        swap_consistency: share of pairs for which the same film is chosen in both orders.
        p_a: mean probability of answering A; 0.5 without a position bias.
        auc: area under the ROC curve of P(A) as a score for "A is right".
        brier: mean squared error of P(A) against the truth (0 best, 0.25 for a constant 0.5).
        ece: expected calibration error of P(A), over ``bins`` equal bins.
    """
    probability = np.concatenate([p_liked_a, p_liked_b])
    truth = np.concatenate([np.ones_like(p_liked_a), np.zeros_like(p_liked_b)])
    first, second = _right(p_liked_a), _right(1 - p_liked_b)
    return {
        "accuracy": float((first.mean() + second.mean()) / 2),
        "accuracy_liked_first": float(first.mean()),
        "swap_consistency": float((first == second).mean()),
        "p_a": float(probability.mean()),
        "auc": auc(truth, probability),
        "brier": float(np.mean((probability - truth) ** 2)),
        "ece": expected_calibration_error(truth, probability, bins),
    }


def _right(probability_of_truth: np.ndarray) -> np.ndarray:
    return np.where(probability_of_truth == 0.5, 0.5, (probability_of_truth > 0.5).astype(float))


def auc(truth: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve, by ranks (Mann-Whitney U); ties count one half.

    NaN when only one class is present.
    """
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    ranks = rankdata(score)
    return float((ranks[truth == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def expected_calibration_error(truth: np.ndarray, probability: np.ndarray, bins: int = 10) -> float:
    """Mean gap between stated and observed probability, weighted by bin size (Naeini et al., 2015)."""
    bin_of = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = [
        abs(probability[bin_of == b].mean() - truth[bin_of == b].mean()) * (bin_of == b).mean()
        for b in np.unique(bin_of)
    ]
    return float(np.sum(gaps))


def bootstrap_intervals(
    metric: Callable[..., dict[str, float]],
    *columns: np.ndarray,
    groups: np.ndarray,
    samples: int,
    seed: int,
    level: float = 0.95,
) -> dict[str, list[float]]:
    """Percentile intervals of every value that ``metric(*columns)`` returns.

    Whole groups (users) are drawn with replacement, because a user's pairs are not independent.

    Returns:
        name -> [lower, upper].
    """
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    draws: dict[str, list[float]] = {}
    for _ in range(samples):
        rows = np.concatenate([members[g] for g in rng.integers(len(members), size=len(members))])
        for name, value in metric(*(column[rows] for column in columns)).items():
            draws.setdefault(name, []).append(value)
    tail = (1 - level) / 2
    return {name: [float(np.nanquantile(v, tail)), float(np.nanquantile(v, 1 - tail))] for name, v in draws.items()}


def by_kind(table: pd.DataFrame, compute: Callable[[pd.DataFrame], dict[str, Any]]) -> dict[str, Any]:
    """``compute`` over all pairs, then over each kind under names such as `accuracy_easy`."""
    values = dict(compute(table))
    for kind, rows in table.groupby("kind"):
        values |= {f"{name}_{kind}": value for name, value in compute(rows).items()}
    return values


def summarise(
    table: pd.DataFrame, metric: Callable[..., dict[str, float]], samples: int, seed: int
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Metrics of all pairs and of each kind, and their intervals over resampled users.

    Args:
        table: one row a pair, with the columns kind, user, p_liked_a and p_liked_b.
        metric: from p_liked_a and p_liked_b to named values.
    """

    def values(rows: pd.DataFrame) -> dict[str, float]:
        return metric(rows["p_liked_a"].to_numpy(), rows["p_liked_b"].to_numpy())

    def intervals(rows: pd.DataFrame) -> dict[str, list[float]]:
        columns = rows["p_liked_a"].to_numpy(), rows["p_liked_b"].to_numpy()
        return bootstrap_intervals(metric, *columns, groups=rows["user"].to_numpy(), samples=samples, seed=seed)

    return by_kind(table, values), by_kind(table, intervals)
