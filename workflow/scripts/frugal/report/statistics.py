"""Comparisons of two systems on the same users."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

#: The columns that make a test pair the same pair in two files.
PAIR = ["user", "kind", "liked", "other"]
SAMPLES = 10_000
LEVEL = 0.95


@dataclass(frozen=True)
class Comparison:
    """The difference of two means over ``pairs`` values of ``users`` users, first minus second."""

    pairs: int
    users: int
    difference: float
    lower: float
    upper: float
    p: float


def pair_accuracy(predictions: pd.DataFrame) -> pd.Series:
    """For each pair the share of its two questions answered rightly; an exact tie counts one half."""
    first = (np.sign(predictions["p_liked_a"] - 0.5) + 1) / 2
    second = (np.sign(0.5 - predictions["p_liked_b"]) + 1) / 2
    return (first + second) / 2


def compare(first: pd.DataFrame, second: pd.DataFrame, samples: int = SAMPLES, seed: int = 0) -> Comparison | None:
    """Paired bootstrap of the difference in accuracy, over the pairs that both systems answered.

    Users are resampled, not pairs, because a user's pairs are not independent. The interval is the
    percentile interval; p is two-sided and agrees with it: twice the smaller share of resampled
    differences on one side of zero, each share counted with one added (Davison and Hinkley, 1997,
    section 4.2.3).

    Returns:
        None when the two have no pair in common.
    """
    sides = [side[PAIR].assign(right=pair_accuracy(side)).drop_duplicates(PAIR) for side in (first, second)]
    both = sides[0].merge(sides[1], on=PAIR, suffixes=("_first", "_second"))
    if both.empty:
        return None
    both["difference"] = both["right_first"] - both["right_second"]
    by_user = both.groupby("user")["difference"].agg(["sum", "count"]).to_numpy(dtype=float)
    draws = resampled_means(by_user, np.ones(len(by_user)), samples, seed)
    return comparison(draws, len(both), len(by_user), both["difference"].mean())


def compare_users(first: pd.Series, second: pd.Series, samples: int = SAMPLES, seed: int = 0) -> Comparison | None:
    """`compare` for one value a user, such as NDCG@10, over the users that both series have in their index.

    Returns:
        None when the two have no user in common.
    """
    both = pd.concat([first, second], axis=1, join="inner")
    if both.empty:
        return None
    # Few differences are distinct: drawing these by their number is drawing users, and far faster.
    differences = np.round((both.iloc[:, 0] - both.iloc[:, 1]).to_numpy(dtype=float), 12)
    distinct, counts = np.unique(differences, return_counts=True)
    draws = resampled_means(np.column_stack([distinct, np.ones_like(distinct)]), counts, samples, seed)
    return comparison(draws, len(both), len(both), differences.mean())


def comparison(draws: np.ndarray, pairs: int, users: int, difference: float) -> Comparison:
    tail, samples = (1 - LEVEL) / 2, len(draws)
    below, above = (np.sum(draws <= 0) + 1) / (samples + 1), (np.sum(draws >= 0) + 1) / (samples + 1)
    return Comparison(
        pairs=pairs,
        users=users,
        difference=float(difference),
        lower=float(np.quantile(draws, tail)),
        upper=float(np.quantile(draws, 1 - tail)),
        p=float(min(1, 2 * min(below, above))),
    )


def resampled_means(by_user: np.ndarray, users: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """Means over resampled users, in chunks to bound the memory.

    Args:
        by_user: (n, 2), sum and count of values of a user.
        users: (n,), how many users have this sum and count.
    """
    rng = np.random.default_rng(seed)
    number = int(users.sum())
    chunk = max(1, min(1000, 5_000_000 // len(by_user)))
    means = []
    for start in range(0, samples, chunk):
        size = min(chunk, samples - start)
        totals = rng.multinomial(number, users / number, size=size) @ by_user
        means.append(totals[:, 0] / totals[:, 1])
    # Sums of the same differences in another order may miss zero by rounding alone.
    return np.round(np.concatenate(means), 12)


def holm(p_values: pd.Series) -> pd.Series:
    """Holm's step-down adjustment (Holm, 1979); missing values stay missing and do not count."""
    known = p_values.dropna().astype(float).sort_values(kind="stable")
    factors = np.arange(len(known), 0, -1)
    adjusted = np.minimum(1, np.maximum.accumulate(known.to_numpy() * factors))
    return pd.Series(adjusted, index=known.index, dtype=float).reindex(p_values.index)


def verdict(difference: float, lower: float, upper: float, p_holm: float) -> str:
    """`better`, `worse`, or `no difference found` where the interval covers zero or p is .05 and more."""
    if lower <= 0 <= upper or p_holm >= 1 - LEVEL:
        return "no difference found"
    return "better" if difference > 0 else "worse"


def with_verdicts(frame: pd.DataFrame) -> pd.DataFrame:
    """A table of comparisons (difference, lower, upper, p) with p_holm over all its rows, and the verdicts."""
    if "p" in frame and frame["p"].notna().any():
        frame["p_holm"] = holm(frame["p"])
        known = frame["p_holm"].notna()
        frame["verdict"] = frame["verdict"].astype(object)
        frame.loc[known, "verdict"] = [
            verdict(row.difference, row.lower, row.upper, row.p_holm) for row in frame[known].itertuples()
        ]
    return frame.rename(columns={"lower": "difference_lower", "upper": "difference_upper"})
