"""Evaluation of a recommender: the rank of each user's held-out items in the full catalogue, in batches of users."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from frugal.errors import FrugalError
from frugal.recsys.histories import History, Part, Split
from frugal.recsys.ranking_metrics import best_ranks, ranking_metrics

#: Maps users, int64 (B,), and their histories, B arrays of item ids in time order, to scores, (B, item_count).
Scorer = Callable[[np.ndarray, list[np.ndarray]], np.ndarray | torch.Tensor]
#: The cut-off of early stopping and of predictions.parquet: it is always computed.
MAIN_CUTOFF = 10
#: Scores that are held at once, of large catalogues: 128 MB, and some copies.
SCORES = 2**25
PREDICTION_METRICS = [f"HR@{MAIN_CUTOFF}", f"NDCG@{MAIN_CUTOFF}", f"recall@{MAIN_CUTOFF}", "MRR"]
#: The columns of predictions.parquet.
PREDICTION_COLUMNS = dict.fromkeys(("seed", "user", "targets", "rank"), "int64") | dict.fromkeys(
    PREDICTION_METRICS, "float64"
)


@dataclass(frozen=True)
class Evaluation:
    """The result of one scorer on one part of a split; n users in ascending order.

    Attributes:
        users: int64, (n,): the scored users.
        targets: int64, (n,): the number of items to predict.
        rank: int64, (n,): the rank of the best-ranked target, 1 for the first place.
        top: int64, (n, k), k = `MAIN_CUTOFF` or the size of a smaller catalogue: the first items of each user's list,
            best first; -1 after the last candidate.
        per_user: name -> float64, (n,), see `ranking_metrics`.
        metrics: the means of ``per_user``, and coverage@k: the share of the catalogue that is among the
            top k of at least one user.
        sampled: means under the same names, of targets ranked among sampled negatives only; empty unless
            requested. Krichene and Rendle (2020, "On Sampled Metrics for Item Recommendation") show that
            such values may order systems differently from the full ranking and cannot be compared with it.
            They are reported separately, for comparison with work that reports nothing else.
    """

    users: np.ndarray
    targets: np.ndarray
    rank: np.ndarray
    top: np.ndarray
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
    part: Part,
    cutoffs: Sequence[int] = (5, 10, 20),
    batch_size: int = 256,
    seed: int = 0,
    users: np.ndarray | None = None,
    sampled_negatives: int | None = None,
    history: History = "auto",
) -> Evaluation:
    """Rank the full catalogue for each user of ``part`` and find the ranks of the targets.

    Items of a user's history are all ranked, or none of them is, and then none of them is a target. Ties are broken
    at random, so that constant scores give the metrics of a random ranking. Random numbers depend on ``seed`` and the
    user alone: the batch size does not change the result.

    Args:
        cutoffs: the k of HR@k and the other metrics; `MAIN_CUTOFF` is added if it is missing.
        batch_size: users per call of the scorer; fewer where these have more than `SCORES` scores.
        users: score only these; None for all. Users without targets or history are skipped.
        sampled_negatives: the number of negatives for ``Evaluation.sampled``, drawn uniformly without
            replacement from the ranked items that are not targets.
        history: "exclude" or "keep" the items of a user's history; "auto" keeps them where items repeat.

    Raises:
        FrugalError: there is no user to score, an item is not in the catalogue, or scores are not numbers.
    """
    context, targets = split.context(part), split.targets(part, history)
    excluded = not split.keeps_history(history)
    largest = max(context.items.max(initial=-1), targets.items.max(initial=-1))
    if largest >= split.item_count:
        raise FrugalError(f"item {largest} is beyond the catalogue of {split.item_count}; prepare the data again")
    cases = np.flatnonzero((targets.lengths > 0) & (context.lengths > 0))
    scored = cases if users is None else np.intersect1d(users, cases)
    if len(scored) == 0:
        raise FrugalError(f"no user has both a history and a {part} item{_advice(split, part, history)}")
    cutoffs = sorted({*cutoffs, MAIN_CUTOFF})
    batch_size = max(1, min(batch_size, SCORES // split.item_count))
    counts = targets.lengths[scored]
    offsets = np.concatenate(([0], np.cumsum(counts)))
    ranks = np.empty(offsets[-1], dtype=np.int64)
    sampled_ranks = np.empty_like(ranks)
    first = np.empty((len(scored), min(MAIN_CUTOFF, split.item_count)), dtype=np.int64)
    recommended = {k: np.zeros(split.item_count, dtype=bool) for k in cutoffs}

    # Batches of histories of similar length need little padding.
    by_length = np.argsort(context.lengths[scored], kind="stable")
    for start in range(0, len(scored), batch_size):
        index = by_length[start : start + batch_size]
        batch = scored[index]
        histories = [context[user] for user in batch]
        batch_targets = [targets[user] for user in batch]
        at = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in index])
        scores = _candidates(scorer(batch, histories), histories, excluded, split.item_count)
        ranks[at] = _ranks(scores, batch_targets, batch, seed, batch_size)
        top = _top(scores, max(cutoffs), batch, seed)
        first[index] = top[:, :MAIN_CUTOFF]
        for k, seen in recommended.items():
            seen[top[:, :k][top[:, :k] >= 0]] = True
        if sampled_negatives is not None:
            left_out = histories if excluded else [row[:0] for row in histories]
            sampled_scores = _among_sampled(scores, batch_targets, left_out, batch, seed, sampled_negatives)
            sampled_ranks[at] = _ranks(sampled_scores, batch_targets, batch, seed, batch_size)

    per_user = ranking_metrics(ranks, offsets, cutoffs)
    sampled = {} if sampled_negatives is None else ranking_metrics(sampled_ranks, offsets, cutoffs)
    coverage = {f"coverage@{k}": float(seen.mean()) for k, seen in recommended.items()}
    return Evaluation(
        users=scored,
        targets=counts,
        rank=best_ranks(ranks, offsets),
        top=first,
        per_user=per_user,
        metrics=_means(per_user) | coverage,
        sampled=_means(sampled),
    )


def _advice(split: Split, part: Part, history: History) -> str:
    if len(split.cases(part, "keep")):
        return " that is not in it: all targets are repeated; set evaluation.history to 'keep'"
    return f"; use more data or a larger {part} share"


def _means(values: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: float(value.mean()) for name, value in values.items()}


def _indices(items: list[np.ndarray], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Row and column indices, (n,) each, of B arrays of items."""
    rows = np.repeat(np.arange(len(items)), [len(row) for row in items])
    return torch.from_numpy(rows).to(device), torch.from_numpy(np.concatenate(items).astype(np.int64)).to(device)


def _candidates(
    scores: np.ndarray | torch.Tensor, histories: list[np.ndarray], excluded: bool, item_count: int
) -> torch.Tensor:
    """float32, (B, item_count): the scores; -inf for items of the history where these are excluded."""
    scores = torch.as_tensor(scores)
    if scores.shape != (len(histories), item_count):
        raise FrugalError(f"scores of shape {tuple(scores.shape)}, expected {(len(histories), item_count)}")
    # A copy; a scorer's own -inf stays above that of an excluded item.
    scores = scores.float().clamp(min=torch.finfo(torch.float32).min)
    if scores.isnan().any():
        raise FrugalError("scores contain NaN; the training has diverged: lower the learning rate")
    if excluded:
        scores[_indices(histories, scores.device)] = -torch.inf
    return scores


def _among_sampled(
    scores: torch.Tensor,
    batch_targets: list[np.ndarray],
    excluded: list[np.ndarray],
    users: np.ndarray,
    seed: int,
    count: int,
) -> torch.Tensor:
    """(B, item_count): the scores of the targets and of ``count`` other candidates, -inf elsewhere.

    ``excluded``: the items of each row that are no candidates.
    """
    chosen = []
    for user, targets, left_out in zip(users, batch_targets, excluded, strict=True):
        free = np.ones(scores.shape[1], dtype=bool)
        free[left_out] = free[targets] = False
        others = np.flatnonzero(free)
        rng = np.random.default_rng([seed, user, 1])
        negatives = rng.choice(others, min(count, len(others)), replace=False, shuffle=False)
        chosen.append(np.concatenate((targets, negatives)))
    at = _indices(chosen, scores.device)
    few = torch.full_like(scores, -torch.inf)
    few[at] = scores[at]
    return few


def _priorities(seed: int, user: int, item_count: int) -> np.ndarray:
    """float64, (item_count,): the order of items of equal score, lowest first."""
    return np.random.default_rng([seed, user]).random(item_count)


def _ranks(
    scores: torch.Tensor, batch_targets: list[np.ndarray], users: np.ndarray, seed: int, chunk: int
) -> np.ndarray:
    """int64, (targets,): 1 + the number of candidates before each target; ``chunk`` targets at a time."""
    rows, items = _indices(batch_targets, scores.device)
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
    """int64, (B, at most k): the top items of each row in the order of `_ranks`; -1 after the last candidate."""
    # One more than k, to see whether a tie crosses the cut-off.
    values, items = (t.cpu().numpy() for t in scores.topk(min(k + 1, scores.shape[1]), dim=1))
    tied = (values[:, 1:] == values[:, :-1]) & (values[:, 1:] > -np.inf)
    for row in np.flatnonzero(tied.any(axis=1)):
        priority, own = _priorities(seed, users[row], scores.shape[1]), scores[row].cpu().numpy()
        near = np.flatnonzero(own >= values[row, -1])
        items[row] = near[np.lexsort((priority[near], -own[near]))[: items.shape[1]]]
    return np.where(values > -np.inf, items, -1)[:, :k]
