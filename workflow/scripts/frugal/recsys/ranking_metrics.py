"""Ranking metrics, from the ranks of the target items."""

from collections.abc import Iterable

import numpy as np


def ranking_metrics(ranks: np.ndarray, offsets: np.ndarray, cutoffs: Iterable[int]) -> dict[str, np.ndarray]:
    """HR, recall and NDCG at each cut-off, and MRR, for each user.

    With one target a user these are the measures of leave-one-out evaluation, where HR equals recall.

    Args:
        ranks: (targets,): the rank of every target, 1 for the top; a user's ranks are distinct.
        offsets: int64, (users + 1,): user u has ``ranks[offsets[u]:offsets[u + 1]]``, at least one.

    Returns:
        name -> float64, (users,), for a user with m targets:
        HR@k: 1 if any target is among the top k, else 0.
        recall@k: the share of the m targets that is among the top k.
        NDCG@k: the sum of 1 / log2(1 + rank) over the targets among the top k, divided by its largest
            possible value, that of targets at ranks 1 to min(m, k): NDCG with binary relevance, after
            Järvelin and Kekäläinen (2002, "Cumulated gain-based evaluation of IR techniques").
        MRR: the reciprocal rank of the best-ranked target, without a cut-off; its mean over users is the MRR.
    """
    starts, counts = offsets[:-1], np.diff(offsets)
    gains = 1 / np.log2(1 + ranks)
    metrics = {}
    for k in cutoffs:
        hits = ranks <= k
        ideal = np.cumsum(1 / np.log2(1 + np.arange(1, k + 1)))[np.minimum(counts, k) - 1]
        found = np.add.reduceat(hits, starts, dtype=np.int64)
        metrics[f"HR@{k}"] = (found > 0).astype(float)
        metrics[f"recall@{k}"] = found / counts
        metrics[f"NDCG@{k}"] = np.add.reduceat(gains * hits, starts) / ideal
    metrics["MRR"] = 1 / best_ranks(ranks, offsets)
    return metrics


def best_ranks(ranks: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(users,): the rank of each user's best-ranked target."""
    return np.minimum.reduceat(ranks, offsets[:-1])
