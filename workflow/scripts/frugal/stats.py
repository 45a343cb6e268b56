"""The statistics of all experiments: bootstrap intervals, paired comparisons of two systems, and their verdicts.

SciPy is imported where it is used: evaluations that do without it start faster and take less memory.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

#: Confidence level of every interval, and one minus the significance level of every test.
LEVEL = 0.95
#: Bootstrap samples of a comparison.
SAMPLES = 10_000
#: With fewer cases than this a bootstrap has too few distinct samples: comparisons use Student's t instead.
FEW = 10


def bootstrap(
    statistic: Callable[[np.ndarray], dict[str, np.ndarray]], copies: np.ndarray, samples: int, seed: int
) -> dict[str, np.ndarray]:
    """Values of a statistic over bootstrap samples of whole groups, such as users or documents.

    Groups are resampled, not their rows, because the rows of one group are not independent. A sample is given by
    how often it contains each group; these counts follow a multinomial distribution.

    Args:
        statistic: from counts, int64 (n, groups), to name -> (n,), its values over n samples.
        copies: (groups,), the number of identical groups that each entry stands for; ones where none are merged.

    Returns:
        name -> (samples,), fewer if the statistic leaves samples out.
    """
    rng = np.random.default_rng(seed)
    groups = int(copies.sum())
    chunk = max(1, 2**20 // len(copies))  # bounds the memory; the samples do not depend on it
    chunks = [
        statistic(rng.multinomial(groups, copies / groups, size=min(chunk, samples - start)))
        for start in range(0, samples, chunk)
    ]
    return {name: np.concatenate([values[name] for values in chunks]) for name in chunks[0]}


def percentile_interval(values: np.ndarray) -> list[float]:
    """[lower, upper] of the values over bootstrap samples; samples whose value is not defined (NaN) do not count."""
    tail = (1 - LEVEL) / 2
    return np.nanquantile(values, [tail, 1 - tail]).tolist()


def mean_intervals(values: dict[str, np.ndarray], samples: int, seed: int) -> dict[str, list[float]]:
    """Percentile intervals of means over resampled users.

    Args:
        values: name -> float64, (users,), the same users under every name.

    Returns:
        name -> [lower, upper].
    """
    table = np.stack(list(values.values()), axis=1)

    def means(counts: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(values, (counts @ table / len(table)).T, strict=True))

    found = bootstrap(means, np.ones(len(table)), samples, seed)
    return {name: percentile_interval(draws) for name, draws in found.items()}


def auc(truth: np.ndarray, score: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Area under the ROC curve: the probability that a positive scores above a negative, ties counted one half.

    This is Mann-Whitney's U over its largest value, which SciPy computes for rows without weights only.

    Args:
        truth: (n,), 1 for a positive and 0 for a negative.
        score: (n,).
        weights: (..., n), the number of times that each row counts; None for once.

    Returns:
        (...), NaN where only one class is present.
    """
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf))  # of each distinct score
    weights = np.ones(len(score)) if weights is None else weights[..., order]
    positives = np.add.reduceat(weights * truth[order], starts, axis=-1)
    negatives = np.add.reduceat(weights * (1 - truth[order]), starts, axis=-1)
    below = negatives.cumsum(-1) - negatives / 2
    with np.errstate(invalid="ignore"):
        return (positives * below).sum(-1) / (positives.sum(-1) * negatives.sum(-1))


@dataclass(frozen=True)
class Comparison:
    """The difference of two systems' means, first minus second.

    Attributes:
        pairs: the number of single values that both systems have.
        users: the number of users or documents that these belong to.
        lower, upper: the 95 % interval of the difference.
        p: two-sided.
        effect: see `effect_size`; None where all users have the same difference.
    """

    pairs: int
    users: int
    difference: float
    lower: float
    upper: float
    p: float
    effect: float | None


def compare(first: pd.Series, second: pd.Series, samples: int = SAMPLES, seed: int = 0) -> Comparison | None:
    """`compare_cases` over the values that both systems have, such as NDCG@10 of each user or accuracy of each pair.

    Args:
        first, second: a value for each entry of the index, without duplicates. The index, or its first level, is
            the user.

    Returns:
        None if the two have no entry in common.
    """
    both = pd.concat([first, second], axis=1, join="inner")
    if both.empty:
        return None
    # Equal differences must stay equal, and zero must stay zero, whatever the rounding.
    differences = (both.iloc[:, 0] - both.iloc[:, 1]).astype(float).round(12)
    by_user = differences.groupby(level=0).agg(["sum", "count"])
    return compare_cases(by_user.to_numpy(dtype=float), len(both), samples, seed)


def compare_cases(cases: np.ndarray, pairs: int, samples: int = SAMPLES, seed: int = 0) -> Comparison:
    """Compare two systems by the ratio of sums of their paired differences.

    The interval is the bootstrap's percentile interval over cases. p is twice the smaller share of bootstrap
    differences on one side of zero, each share counted with one added (Davison and Hinkley, 1997, section 4.2.3),
    and so agrees with the interval. With fewer than `FEW` cases both are those of Student's t, with the standard
    error of a ratio of sums (Cochran, 1977, section 2.11).

    Args:
        cases: (n, 2), the sum and the number of the differences of each user or document.
        pairs: the number of single differences.
    """
    difference = float(cases[:, 0].sum() / cases[:, 1].sum())
    bounds = _student(cases) if len(cases) < FEW else _bootstrap_test(cases, samples, seed)
    return Comparison(pairs, len(cases), difference, *bounds, effect_size(cases[:, 0] / cases[:, 1]))


def _bootstrap_test(cases: np.ndarray, samples: int, seed: int) -> tuple[float, float, float]:
    """Lower and upper bound, and p."""
    copies = np.ones(len(cases))
    if (cases[:, 1] == 1).all():
        # Few differences are distinct: merging equal users gives the same distribution much faster.
        distinct, copies = np.unique(cases[:, 0], return_counts=True)
        cases = np.column_stack([distinct, np.ones_like(distinct)])

    def ratio(counts: np.ndarray) -> dict[str, np.ndarray]:
        sums, numbers = (counts @ cases).T
        # Sums of the same differences in another order may miss zero by rounding alone.
        return {"difference": np.round(sums / numbers, 12)}

    draws = bootstrap(ratio, copies, samples, seed)["difference"]
    below, above = (np.sum(draws <= 0) + 1) / (samples + 1), (np.sum(draws >= 0) + 1) / (samples + 1)
    lower, upper = percentile_interval(draws)
    return lower, upper, float(min(1, 2 * min(below, above)))


def _student(cases: np.ndarray) -> tuple[float, float, float]:
    """Lower and upper bound, and p: that of the sign test if there is no spread, NaN for a single case."""
    from scipy.stats import t

    number, (total, counts) = len(cases), cases.sum(0)
    if number < 2:
        return float("nan"), float("nan"), float("nan")
    ratio = total / counts
    residuals = cases[:, 0] - ratio * cases[:, 1]
    error = np.sqrt(number / (number - 1) * (residuals**2).sum()) / counts
    if error < 1e-12:
        return ratio, ratio, 1.0 if abs(ratio) < 1e-12 else 2.0 ** (1 - number)
    margin = t.ppf(1 - (1 - LEVEL) / 2, number - 1) * error
    return float(ratio - margin), float(ratio + margin), float(2 * t.sf(abs(ratio) / error, number - 1))


def effect_size(differences: np.ndarray) -> float | None:
    """The mean of paired differences over their standard deviation: d_z (Cohen, 1988, chapter 2; Lakens, 2013).

    Returns:
        None for fewer than two differences, and for differences that are all the same.
    """
    spread = np.std(differences, ddof=1) if len(differences) > 1 else 0
    return float(np.mean(differences) / spread) if spread > 1e-12 else None


def holm(p_values: pd.Series) -> pd.Series:
    """Holm's step-down adjustment (Holm, 1979), which SciPy lacks; missing values stay missing and do not count."""
    known = p_values.dropna().astype(float).sort_values(kind="stable")
    factors = np.arange(len(known), 0, -1)
    adjusted = np.minimum(1, np.maximum.accumulate(known.to_numpy() * factors))
    return pd.Series(adjusted, index=known.index, dtype=float).reindex(p_values.index)


def verdict(difference: float, lower: float, upper: float, p_holm: float) -> str:
    """`better` or `worse`; `no difference found` if the interval contains zero or the adjusted p is at least .05."""
    if lower <= 0 <= upper or p_holm >= 1 - LEVEL:
        return "no difference found"
    return "better" if difference > 0 else "worse"


def with_verdicts(frame: pd.DataFrame) -> pd.DataFrame:
    """A table of comparisons (difference, lower, upper, p) with p_holm over all its rows, and their verdicts."""
    if "p" in frame and frame["p"].notna().any():
        frame["p_holm"] = holm(frame["p"])
        known = frame["p_holm"].notna()
        frame["verdict"] = frame["verdict"].astype(object)
        frame.loc[known, "verdict"] = [
            verdict(row.difference, row.lower, row.upper, row.p_holm) for row in frame[known].itertuples()
        ]
    return frame.rename(columns={"lower": "difference_lower", "upper": "difference_upper"})


def krippendorff_alpha(ratings: np.ndarray) -> float | None:
    """Agreement of raters on an ordinal scale: 1 perfect, 0 as if by chance, below 0 systematic disagreement.

    alpha = 1 - D_observed / D_expected, from the coincidences of values within units: Krippendorff (2011),
    Computing Krippendorff's Alpha-Reliability.

    Args:
        ratings: (raters, units); NaN where a rater gave no value.

    Returns:
        None where it is not defined: no unit has two values, or all values are the same.
    """
    paired = ratings[:, (~np.isnan(ratings)).sum(0) >= 2]
    values = np.unique(paired[~np.isnan(paired)])
    if len(values) < 2:
        return None
    # (units, values): the number of raters who gave the value to the unit.
    counts = (paired.T[:, :, None] == values).sum(1).astype(float)
    raters = counts.sum(1)
    coincidences = np.einsum("uc,uk,u->ck", counts, counts, 1 / (raters - 1))
    # A value is not paired with itself: each of its raters has one partner less.
    coincidences -= np.diag((counts / (raters - 1)[:, None]).sum(0))
    totals = coincidences.sum(0)
    # The squared difference of two values is that of their mean ranks.
    ranks = np.cumsum(totals) - totals / 2
    squared = (ranks[:, None] - ranks[None, :]) ** 2
    observed = (coincidences * squared).sum() / totals.sum()
    expected = (np.outer(totals, totals) * squared).sum() / (totals.sum() * (totals.sum() - 1))
    return float(1 - observed / expected)
