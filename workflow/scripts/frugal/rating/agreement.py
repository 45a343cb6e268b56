"""Krippendorff's alpha: how far raters agree beyond chance."""

from typing import Literal

import numpy as np

Level = Literal["nominal", "ordinal", "interval", "ratio"]


def krippendorff_alpha(ratings: np.ndarray, level: Level) -> float | None:
    """Agreement of raters: 1 perfect, 0 as if by chance, below 0 systematic disagreement.

    alpha = 1 - D_observed / D_expected, from the coincidences of values within units, with the difference
    functions of each level: Krippendorff (2011), Computing Krippendorff's Alpha-Reliability.

    Args:
        ratings: (raters, units); NaN where a rater gave no value.
        level: what differences between values mean; 'ordinal' for scales whose values only have an order.

    Returns:
        None where it is not defined: no unit has two values, or all values are the same.
    """
    paired = ratings[:, (~np.isnan(ratings)).sum(0) >= 2]
    values = np.unique(paired[~np.isnan(paired)])
    if len(values) < 2:
        return None
    # (units, values): how many raters gave the value to the unit.
    counts = (paired.T[:, :, None] == values).sum(1).astype(float)
    raters = counts.sum(1)
    coincidences = np.einsum("uc,uk,u->ck", counts, counts, 1 / (raters - 1))
    # A value is not paired with itself: each of its raters has one partner less.
    coincidences -= np.diag((counts / (raters - 1)[:, None]).sum(0))
    totals = coincidences.sum(0)
    squared = _squared_differences(values, totals, level)
    observed = (coincidences * squared).sum() / totals.sum()
    expected = (np.outer(totals, totals) * squared).sum() / (totals.sum() * (totals.sum() - 1))
    return float(1 - observed / expected)


def _squared_differences(values: np.ndarray, totals: np.ndarray, level: Level) -> np.ndarray:
    """(values, values): the squared difference of each two values, which occur ``totals`` times."""
    rows, columns = values[:, None], values[None, :]
    if level == "nominal":
        return (rows != columns).astype(float)
    if level == "ordinal":
        # The values that lie between two, these two counted by half: a difference of mean ranks.
        ranks = np.cumsum(totals) - totals / 2
        return (ranks[:, None] - ranks[None, :]) ** 2
    if level == "interval":
        return (rows - columns) ** 2
    both = rows + columns
    return np.where(both == 0, 0.0, (rows - columns) / np.where(both == 0, 1, both)) ** 2
