"""How well a recommender ranks what users had next: full ranking over the catalogue, in batches of users."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from frugal.errors import FrugalError
from frugal.files import write_json
from frugal.recsys.histories import Split
from frugal.recsys.ranking_metrics import best_ranks, ranking_metrics

#: From users, int64 (B,), and their histories, B arrays of item ids in time order, to scores, (B, item_count).
Scorer = Callable[[np.ndarray, list[np.ndarray]], np.ndarray | torch.Tensor]
#: Early stopping and the files of predictions read the metrics at this cut-off: it is always computed.
MAIN_CUTOFF = 10
PREDICTION_METRICS = [f"HR@{MAIN_CUTOFF}", f"NDCG@{MAIN_CUTOFF}", f"recall@{MAIN_CUTOFF}", "MRR"]
#: The columns of predictions.parquet.
PREDICTION_COLUMNS = dict.fromkeys(("seed", "user", "targets", "rank"), "int64") | dict.fromkeys(
    PREDICTION_METRICS, "float64"
)
LEVEL = 0.95


@dataclass(frozen=True)
class Evaluation:
    """The result of one scorer on one part of a split; n users in ascending order.

    Attributes:
        users: int64, (n,): who was scored.
        targets: int64, (n,): how many items were to be predicted.
        rank: int64, (n,): the rank of the best-ranked target, 1 for the first place.
        per_user: name -> float64, (n,), see `ranking_metrics`.
        metrics: the means of ``per_user``, and coverage@k: the share of the catalogue that is among the
            first k of at least one user.
        sampled: means under the same names, of targets ranked among sampled negatives only; empty if not
            asked for. Krichene and Rendle (2020, "On Sampled Metrics for Item Recommendation") show that
            such values may order systems differently from the full ranking, and that they cannot be
            compared with it: they stand apart, for comparison with work that reports nothing else.
    """

    users: np.ndarray
    targets: np.ndarray
    rank: np.ndarray
    per_user: dict[str, np.ndarray]
    metrics: dict[str, float]
    sampled: dict[str, float]

    def to_frame(self, seed: int) -> pd.DataFrame:
        """The rows of predictions.parquet: n rows under `PREDICTION_COLUMNS`."""
        frame = pd.DataFrame({"seed": seed, "user": self.users, "targets": self.targets, "rank": self.rank})
        return frame.assign(**{name: self.per_user[name] for name in PREDICTION_METRICS})


@torch.no_grad()
def evaluate(
    scorer: Scorer,
    split: Split,
    part: Literal["validation", "test"],
    cutoffs: Sequence[int] = (5, 10, 20),
    batch_size: int = 256,
    seed: int = 0,
    users: np.ndarray | None = None,
    sampled_negatives: int | None = None,
) -> Evaluation:
    """Rank the whole catalogue for each user of ``part`` and see where the targets stand.

    What is in a user's history is left out of the ranking; a target never is. Equal scores are ordered at
    random, so that a scorer that knows nothing gets what chance gives. All that is drawn depends on
    ``seed`` and the user alone: the batch size does not change the result.

    Args:
        cutoffs: the k of HR@k and the others; `MAIN_CUTOFF` is added where it is missing.
        batch_size: users scored at once; memory grows with batch_size * item_count.
        users: score only these; None for everyone. Users without targets or history are passed over.
        sampled_negatives: fills ``Evaluation.sampled``: as many items, drawn uniformly without replacement
            from those that are neither in the user's history nor among the targets.

    Raises:
        FrugalError: nobody is left to be scored, an item is not in the catalogue, or scores are not numbers.
    """
    context, targets = split.context(part), split.validation if part == "validation" else split.test
    largest = max(context.items.max(initial=-1), targets.items.max(initial=-1))
    if largest >= split.item_count:
        raise FrugalError(f"item {largest} is beyond the catalogue of {split.item_count}; prepare the data again")
    cases = split.cases(part) if users is None else np.intersect1d(users, split.cases(part))
    if len(cases) == 0:
        raise FrugalError(f"no user has both a history and a {part} item; use more data or a larger {part} share")
    cutoffs = sorted({*cutoffs, MAIN_CUTOFF})
    counts = targets.lengths[cases]
    offsets = np.concatenate(([0], np.cumsum(counts)))
    ranks = np.empty(offsets[-1], dtype=np.int64)
    sampled_ranks = np.empty_like(ranks)
    covered = {k: np.zeros(split.item_count, dtype=bool) for k in cutoffs}

    # Histories of like length stand in one batch: a model then pads little.
    by_length = np.argsort(context.lengths[cases], kind="stable")
    for start in range(0, len(cases), batch_size):
        index = by_length[start : start + batch_size]
        batch = cases[index]
        histories = [context[user] for user in batch]
        wanted = [targets[user] for user in batch]
        place = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in index])
        scores = _candidates(scorer(batch, histories), histories, wanted, split.item_count)
        ranks[place] = _ranks(scores, wanted, batch, seed, batch_size)
        top = _top(scores, max(cutoffs), batch, seed)
        for k, seen in covered.items():
            seen[top[:, :k][top[:, :k] >= 0]] = True
        if sampled_negatives is not None:
            few = _sampled(scores, wanted, batch, seed, sampled_negatives)
            sampled_ranks[place] = _ranks(few, wanted, batch, seed, batch_size)

    per_user = ranking_metrics(ranks, offsets, cutoffs)
    sampled = {} if sampled_negatives is None else ranking_metrics(sampled_ranks, offsets, cutoffs)
    coverage = {f"coverage@{k}": float(seen.mean()) for k, seen in covered.items()}
    return Evaluation(
        users=cases,
        targets=counts,
        rank=best_ranks(ranks, offsets),
        per_user=per_user,
        metrics=_means(per_user) | coverage,
        sampled=_means(sampled),
    )


def _means(values: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: float(value.mean()) for name, value in values.items()}


def _pairs(items: list[np.ndarray], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Row and column, (n,) each, of the given items of each row."""
    rows = np.repeat(np.arange(len(items)), [len(row) for row in items])
    return torch.from_numpy(rows).to(device), torch.from_numpy(np.concatenate(items).astype(np.int64)).to(device)


def _candidates(
    scores: np.ndarray | torch.Tensor, histories: list[np.ndarray], wanted: list[np.ndarray], item_count: int
) -> torch.Tensor:
    """float32, (B, item_count): the scores, -inf for what is in the history and not among the targets."""
    scores = torch.as_tensor(scores)
    if scores.shape != (len(histories), item_count):
        raise FrugalError(f"scores of shape {tuple(scores.shape)}, expected {(len(histories), item_count)}")
    # A copy; a scorer's own -inf stays above that of an item left out.
    scores = scores.float().clamp(min=torch.finfo(torch.float32).min)
    if scores.isnan().any():
        raise FrugalError("scores contain NaN; the training has diverged: lower the learning rate")
    at = _pairs(wanted, scores.device)
    kept = scores[at]
    scores[_pairs(histories, scores.device)] = -torch.inf
    scores[at] = kept
    return scores


def _sampled(scores: torch.Tensor, wanted: list[np.ndarray], users: np.ndarray, seed: int, count: int) -> torch.Tensor:
    """(B, item_count): the scores of the targets and of ``count`` other candidates, -inf elsewhere."""
    chosen = []
    for free, user, targets in zip((scores > -torch.inf).cpu().numpy(), users, wanted, strict=True):
        free[targets] = False
        others = np.flatnonzero(free)
        rng = np.random.default_rng([seed, user, 1])
        negatives = rng.choice(others, min(count, len(others)), replace=False, shuffle=False)
        chosen.append(np.concatenate((targets, negatives)))
    at = _pairs(chosen, scores.device)
    few = torch.full_like(scores, -torch.inf)
    few[at] = scores[at]
    return few


def _priorities(seed: int, user: int, item_count: int) -> np.ndarray:
    """float64, (item_count,): which of several items of equal score comes first, the lowest one."""
    return np.random.default_rng([seed, user]).random(item_count)


def _ranks(scores: torch.Tensor, wanted: list[np.ndarray], users: np.ndarray, seed: int, chunk: int) -> np.ndarray:
    """int64, (targets,): 1 + the number of candidates before each target; ``chunk`` targets at once."""
    rows, items = _pairs(wanted, scores.device)
    ranks, tied = [], []
    for r, i in zip(rows.split(chunk), items.split(chunk), strict=True):
        own, all_scores = scores[r, i, None], scores[r]
        ranks.append(1 + (all_scores > own).sum(dim=1))
        tied.append((all_scores == own).sum(dim=1) > 1)
    ranks, tied = torch.cat(ranks).cpu().numpy(), torch.cat(tied).cpu().numpy()
    rows, items = rows.cpu().numpy(), items.cpu().numpy()
    for row in np.unique(rows[tied]):
        priority, own = _priorities(seed, users[row], scores.shape[1]), scores[row].cpu().numpy()
        for n in np.flatnonzero(tied & (rows == row)):
            ranks[n] += np.sum((own == own[items[n]]) & (priority < priority[items[n]]))
    return ranks


def _top(scores: torch.Tensor, k: int, users: np.ndarray, seed: int) -> np.ndarray:
    """int64, (B, at most k): each row's first items in the order of `_ranks`; -1 after the last candidate."""
    # One more than k, to see whether a tie crosses the end.
    values, items = (t.cpu().numpy() for t in scores.topk(min(k + 1, scores.shape[1]), dim=1))
    tied = (values[:, 1:] == values[:, :-1]) & (values[:, 1:] > -np.inf)
    for row in np.flatnonzero(tied.any(axis=1)):
        priority, own = _priorities(seed, users[row], scores.shape[1]), scores[row].cpu().numpy()
        near = np.flatnonzero(own >= values[row, -1])
        items[row] = near[np.lexsort((priority[near], -own[near]))[: items.shape[1]]]
    return np.where(values > -np.inf, items, -1)[:, :k]


def bootstrap_mean_intervals(values: dict[str, np.ndarray], samples: int, seed: int) -> dict[str, list[float]]:
    """95 % percentile intervals of means over users, who are drawn with replacement.

    Args:
        values: name -> float64, (users,), the same users under every name.

    Returns:
        name -> [lower, upper].
    """
    table = np.stack(list(values.values()), axis=1)
    users, rng = len(table), np.random.default_rng(seed)
    chunk = max(1, 2**23 // users)
    means = []
    for start in range(0, samples, chunk):
        counts = rng.multinomial(users, np.full(users, 1 / users), size=min(chunk, samples - start))
        means.append(counts @ table / users)
    tail = (1 - LEVEL) / 2
    bounds = np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0)
    return {name: [float(lower), float(upper)] for name, lower, upper in zip(values, *bounds, strict=True)}


def summarise_seeds(evaluations: dict[int, Evaluation], bootstrap_samples: int, seed: int) -> dict[str, Any]:
    """What metrics.json says of a run's seeds, which scored the same users.

    Returns:
        metrics: name -> mean over seeds; std: the sample standard deviation, absent with one seed;
        intervals: name -> [lower, upper] of each mean over users, each user's value averaged over seeds
        (coverage, which is no mean over users, has none); by_seed: seed -> name -> value; sampled: name ->
        mean over seeds; cases: the number of users.
    """
    results = list(evaluations.values())
    by_seed = pd.DataFrame([result.metrics for result in results])
    per_user = {name: np.mean([result.per_user[name] for result in results], axis=0) for name in results[0].per_user}
    return {
        "metrics": by_seed.mean().to_dict(),
        **({"std": by_seed.std(ddof=1).to_dict()} if len(results) > 1 else {}),
        "intervals": bootstrap_mean_intervals(per_user, bootstrap_samples, seed),
        "by_seed": {str(number): result.metrics for number, result in evaluations.items()},
        "sampled": pd.DataFrame([result.sampled for result in results]).mean().to_dict(),
        "cases": len(results[0].users),
    }


def write_ranking_metrics(
    path: Path | str, summary: dict[str, Any], training: dict[str, Any] | None, provenance: dict[str, Any]
) -> None:
    """Write metrics.json: the summary of `summarise_seeds`, the training record (None for a baseline), provenance."""
    write_json(path, {**summary, "training": training, "provenance": provenance})
