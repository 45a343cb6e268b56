"""Paired comparisons computed another way than the report's: users are drawn one by one, and the draws are others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.stats import t

DRAWS = 20_000
#: The report draws so many times.
REPORTED_DRAWS = 10_000
#: Of fewer cases than this, interval and p are Student's.
FEW = 10
#: Two bootstraps with other draws may differ by so many standard errors.
ERRORS = 6


@dataclass(frozen=True)
class Cases:
    """What two systems are compared over: one entry a user or a document.

    Attributes:
        sums, counts: the differences of each, summed, and how many they are.
        pairs: how many single comparisons there are in all.
    """

    sums: np.ndarray
    counts: np.ndarray
    pairs: int

    def __len__(self) -> int:
        return len(self.sums)

    @property
    def mean(self) -> float:
        return self.sums.sum() / self.counts.sum()

    @cached_property
    def draws(self) -> np.ndarray:
        """Means over resampled cases."""
        rng, means = np.random.default_rng(20240229), []
        for start in range(0, DRAWS, 1000):
            drawn = rng.integers(len(self), size=(min(1000, DRAWS - start), len(self)))
            means.append(self.sums[drawn].sum(1) / self.counts[drawn].sum(1))
        return np.round(np.concatenate(means), 12)


def is_bound(shown: float, cases: Cases, share: float) -> bool:
    """Whether a number may be the quantile of the resampled means at ``share``.

    The mean of few resampled cases takes few values: the bound lies where the distribution passes the share.
    """
    if len(cases) < FEW:
        _, error = student(cases)
        return math.isclose(shown, cases.mean + t.ppf(share, len(cases) - 1) * error, rel_tol=1e-9, abs_tol=1e-12)
    margin = ERRORS * math.sqrt(share * (1 - share) * (1 / DRAWS + 1 / REPORTED_DRAWS))
    below, at_most = np.mean(cases.draws < shown - 1e-9), np.mean(cases.draws <= shown + 1e-9)
    return bool(below - margin <= share <= at_most + margin)


def is_p(shown: float, cases: Cases) -> bool:
    """Whether a number may be the two-sided p of the bootstrap."""
    if len(cases) < FEW:
        value, error = student(cases)
        expected = 2 * t.cdf(-abs(value), len(cases) - 1) if error else 1 if not value else 2 / 2 ** len(cases)
        return math.isclose(shown, expected, rel_tol=1e-9)
    p = min(1, 2 * min(np.mean(cases.draws <= 0), np.mean(cases.draws >= 0)))
    margin = 2 * ERRORS * math.sqrt(max(p * (1 - p), 1e-4) * (1 / DRAWS + 1 / REPORTED_DRAWS)) + 2 / REPORTED_DRAWS
    return bool(abs(shown - p) <= margin)


def student(cases: Cases) -> tuple[float, float]:
    """The mean over its standard error, and this error: that of a ratio of two sums."""
    number, whole = len(cases), sum(cases.counts)
    squares = sum((one - cases.mean * count) ** 2 for one, count in zip(cases.sums, cases.counts, strict=True))
    error = math.sqrt(squares * number / (number - 1)) / whole
    error = error if error > 1e-12 else 0.0
    return (cases.mean / error if error else cases.mean), error


def effect(cases: Cases) -> float | None:
    """Mean over standard deviation of the cases' differences."""
    values = pd.Series(cases.sums / cases.counts)
    return values.mean() / values.std() if len(values) > 1 and values.std() > 1e-12 else None


def holm(values: Sequence[float]) -> list[float]:
    """Holm's adjustment as it is taught: the smallest p times m, the next times m - 1, and never falling."""
    order = sorted((value, place) for place, value in enumerate(values) if not math.isnan(value))
    adjusted, highest = [math.nan] * len(values), 0.0
    for rank, (value, place) in enumerate(order):
        highest = max(highest, min(1.0, value * (len(order) - rank)))
        adjusted[place] = highest
    return adjusted


def verdict(row: pd.Series) -> str:
    """What may be said of a difference."""
    if row["difference_lower"] <= 0 <= row["difference_upper"] or row["p_holm"] >= 0.05:
        return "no difference found"
    return "better" if row["difference"] > 0 else "worse"


def by_user(first: pd.DataFrame, second: pd.DataFrame) -> Cases:
    """Two recommenders: the differences of their users' NDCG@10, means over seeds."""
    sides = [side.groupby("user")["NDCG@10"].mean() for side in (first, second)]
    common = sides[0].index.intersection(sides[1].index)
    gain = (sides[0][common] - sides[1][common]).to_numpy()
    return Cases(gain, np.ones_like(gain), len(common))


def by_pair(first: pd.DataFrame, second: pd.DataFrame) -> Cases:
    """Two models: the differences in accuracy of the pairs that both answered, a user's together."""
    keys = ["user", "kind", "liked", "other"]

    def points(row: pd.Series) -> float:
        return (
            sum(1 if wins > 0 else 0.5 if wins == 0 else 0 for wins in (row.p_liked_a - 0.5, 0.5 - row.p_liked_b)) / 2
        )

    sides = [side.assign(points=side.apply(points, axis=1)).set_index(keys)["points"] for side in (first, second)]
    gain = (sides[0] - sides[1]).dropna()
    users = gain.groupby(level="user")
    return Cases(users.sum().to_numpy(), users.count().to_numpy(float), len(gain))


def by_document(first: pd.DataFrame, second: pd.DataFrame) -> Cases:
    """Two language models: nats gained and tokens scored, of each document."""
    both = first.merge(second, on=["document", "tokens"], suffixes=("_first", "_second")).query("tokens > 0")
    gain = (both["nll_second"] - both["nll_first"]).to_numpy()
    return Cases(gain, both["tokens"].to_numpy(float), both["tokens"].sum())


def close(shown: float, expected: float | None) -> bool:
    """Whether two numbers are the same but for rounding; nothing equals nothing."""
    if expected is None or (isinstance(expected, float) and math.isnan(expected)):
        return pd.isna(shown)
    return not pd.isna(shown) and math.isclose(float(shown), float(expected), rel_tol=1e-9, abs_tol=1e-12)
