"""Comparisons of two systems on the same users."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t as student

#: The columns that make a test pair the same pair in two files.
PAIR = ["user", "kind", "liked", "other"]
SAMPLES = 10_000
LEVEL = 0.95
#: A bootstrap over fewer cases than this has too few different samples to draw.
FEW = 10


@dataclass(frozen=True)
class Comparison:
    """The difference of two means over ``pairs`` values of ``users`` users or documents, first minus second.

    Attributes:
        effect: `standardised` difference; None where all users differ alike.
    """

    pairs: int
    users: int
    difference: float
    lower: float
    upper: float
    p: float
    effect: float | None


def pair_accuracy(predictions: pd.DataFrame) -> pd.Series:
    """For each pair the share of its two questions answered rightly; an exact tie counts one half."""
    first = (np.sign(predictions["p_liked_a"] - 0.5) + 1) / 2
    second = (np.sign(0.5 - predictions["p_liked_b"]) + 1) / 2
    return (first + second) / 2


def compare(first: pd.DataFrame, second: pd.DataFrame, samples: int = SAMPLES, seed: int = 0) -> Comparison | None:
    """`compare_cases` for the difference in accuracy, over the pairs that both systems answered.

    Users are resampled, not pairs, because a user's pairs are not independent.

    Returns:
        None when the two have no pair in common.
    """
    sides = [side[PAIR].assign(right=pair_accuracy(side)).drop_duplicates(PAIR) for side in (first, second)]
    both = sides[0].merge(sides[1], on=PAIR, suffixes=("_first", "_second"))
    if both.empty:
        return None
    both["difference"] = both["right_first"] - both["right_second"]
    by_user = both.groupby("user")["difference"].agg(["sum", "count"]).to_numpy(dtype=float)
    return compare_cases(by_user, len(both), samples, seed)


def compare_users(first: pd.Series, second: pd.Series, samples: int = SAMPLES, seed: int = 0) -> Comparison | None:
    """`compare_cases` for one value a user, such as NDCG@10, over the users that both series have in their index.

    Returns:
        None when the two have no user in common.
    """
    both = pd.concat([first, second], axis=1, join="inner")
    if both.empty:
        return None
    differences = np.round((both.iloc[:, 0] - both.iloc[:, 1]).to_numpy(dtype=float), 12)
    return compare_cases(np.column_stack([differences, np.ones_like(differences)]), len(both), samples, seed)


def compare_cases(cases: np.ndarray, pairs: int, samples: int = SAMPLES, seed: int = 0) -> Comparison:
    """The ratio of sums of paired differences, by a bootstrap over cases, or by Student's t where there are few.

    The bootstrap's interval is the percentile interval; p is two-sided and agrees with it: twice the smaller share of
    resampled differences on one side of zero, each share counted with one added (Davison and Hinkley, 1997, section
    4.2.3). Few cases have few different samples, whose spread is too small: of fewer than `FEW` the interval and p are
    those of Student's t, with the standard error of a ratio of sums (Cochran, 1977, section 2.11).

    Args:
        cases: (n, 2), the sum and the count of the differences of a user or a document.
        pairs: how many single differences there are.
    """
    difference = float(cases[:, 0].sum() / cases[:, 1].sum())
    bounds = _by_student(cases) if len(cases) < FEW else _by_bootstrap(cases, samples, seed)
    effect = standardised(cases[:, 0] / cases[:, 1])
    return Comparison(pairs, len(cases), difference, *bounds, effect)


def _by_bootstrap(cases: np.ndarray, samples: int, seed: int) -> tuple[float, float, float]:
    """Lower and upper bound, and p."""
    if (cases[:, 1] == 1).all():
        # Few differences are distinct: drawing these by their number is drawing users, and far faster.
        distinct, numbers = np.unique(cases[:, 0], return_counts=True)
        draws = resampled_means(np.column_stack([distinct, np.ones_like(distinct)]), numbers, samples, seed)
    else:
        draws = resampled_means(cases, np.ones(len(cases)), samples, seed)
    tail = (1 - LEVEL) / 2
    below, above = (np.sum(draws <= 0) + 1) / (samples + 1), (np.sum(draws >= 0) + 1) / (samples + 1)
    lower, upper = np.quantile(draws, [tail, 1 - tail])
    return float(lower), float(upper), float(min(1, 2 * min(below, above)))


def _by_student(cases: np.ndarray) -> tuple[float, float, float]:
    """Lower and upper bound, and p; without a spread p is that of the signs, and of one case nothing is known."""
    number, (total, counts) = len(cases), cases.sum(0)
    if number < 2:
        return float("nan"), float("nan"), float("nan")
    ratio = total / counts
    residuals = cases[:, 0] - ratio * cases[:, 1]
    error = np.sqrt(number / (number - 1) * (residuals**2).sum()) / counts
    if error < 1e-12:
        return ratio, ratio, 1.0 if abs(ratio) < 1e-12 else 2.0 ** (1 - number)
    half = student.ppf(1 - (1 - LEVEL) / 2, number - 1) * error
    return float(ratio - half), float(ratio + half), float(2 * student.sf(abs(ratio) / error, number - 1))


def standardised(differences: np.ndarray) -> float | None:
    """The mean of paired differences over their standard deviation: d_z (Cohen, 1988, chapter 2; Lakens, 2013).

    Returns:
        None for fewer than two differences, and for differences that are all the same.
    """
    spread = np.std(differences, ddof=1) if len(differences) > 1 else 0
    return float(np.mean(differences) / spread) if spread > 1e-12 else None


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


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson, 1927): it holds for few trials, and for shares of 0 and 1."""
    z = 1.959963984540054
    share, shrunk = successes / trials, 1 + z**2 / trials
    centre = (share + z**2 / (2 * trials)) / shrunk
    half = z / shrunk * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


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
