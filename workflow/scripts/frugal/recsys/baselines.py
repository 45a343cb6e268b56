"""Recommenders without a network: popularity, item neighbours, linear autoencoders, a Markov chain.

Each is fitted on all items but the test items (``split.context("test")``); networks need the validation items to
choose when to stop. With the defaults the baselines reach the known figures for MovieLens-100K under leave-one-out
with full ranking, which `tests/unit/recsys/test_baselines.py` checks.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import scipy.sparse

from frugal.config.recommendation import BASELINES
from frugal.recsys.ease import beyond_memory, fit_ease, fit_local_ease, interaction_matrix
from frugal.recsys.evaluation import Scorer
from frugal.recsys.histories import Histories, Split

#: Similarities that are computed at once, at 20 bytes each.
BLOCK_ENTRIES = 4_000_000
UNORDERED = "not computed: the shards carry no order in time, which this baseline is made of"

Weights = np.ndarray | scipy.sparse.csr_array


def fit_baselines(
    split: Split,
    use: Iterable[str] = BASELINES,
    item_knn_neighbours: int = 20,
    item_knn_shrinkage: float = 0.0,
    ease_regularisation: float = 500.0,
    ease_neighbours: int | None = None,
    recency_decay: float = 0.8,
    granted_mb: float | None = None,
) -> dict[str, Scorer | str]:
    """The baselines of ``use``, by name; for one that cannot be computed, the reason.

    Args:
        ease_neighbours: EASE over this number of each item's nearest neighbours; None: over all items.
        granted_mb: the memory of the job, MB (2^20 bytes).
    """
    known, item_count = split.context("test"), split.item_count
    found: dict[str, Scorer | str] = {}
    if "popularity" in use:
        found["popularity"] = fit_popularity(known, item_count)
    if "item_knn" in use:
        found["item_knn"] = linear(fit_item_knn(known, item_count, item_knn_neighbours, item_knn_shrinkage))
    if "ease" in use or ("ease_recency" in use and split.ordered):
        reason = "" if ease_neighbours else beyond_memory(item_count, granted_mb)
        weights = None if reason else fit_ease_weights(known, item_count, ease_regularisation, ease_neighbours)
        found |= {"ease": reason or linear(weights), "ease_recency": reason or linear(weights, recency_decay)}
    if "markov" in use and split.ordered:
        found["markov"] = fit_markov(known, item_count)
    if not split.ordered:
        found |= {"ease_recency": UNORDERED, "markov": UNORDERED}
    return {name: found[name] for name in BASELINES if name in use}


def fit_popularity(known: Histories, item_count: int) -> Scorer:
    """The number of interactions of each item, the same for everyone."""
    counts = np.bincount(known.items, minlength=item_count).astype(np.float32)
    return lambda users, histories: np.tile(counts, (len(users), 1))


def fit_item_knn(
    known: Histories, item_count: int, neighbours: int = 20, shrinkage: float = 0.0
) -> scipy.sparse.csr_array:
    """Weights of ItemKNN, to be used by `linear`: an item scores the sum of its similarities to the history.

    The similarity is the cosine of two items' columns of users, with ``shrinkage`` added to the denominator
    (Dacrema et al., 2019, "Are We Really Making Much Progress?"); each item keeps those of its ``neighbours``
    most similar ones.

    Returns:
        float32, (item_count, item_count): column j holds the similarities of item j's neighbours to it.
    """
    return nearest_items(interaction_matrix(known.users, known.items, item_count), neighbours, shrinkage).T.tocsr()


def nearest_items(matrix: scipy.sparse.csr_array, neighbours: int, shrinkage: float = 0.0) -> scipy.sparse.csr_array:
    """(items, items): the cosines of each row's item with its nearest ones, in blocks that bound the memory.

    Only items with a common user are compared. Ties with the last of the nearest items are kept too, so that the
    order of ids does not matter.
    """
    norms, columns, blocks = np.sqrt(matrix.sum(axis=0)), matrix.T.tocsr(), []
    for rows in _blocks(matrix, columns):
        similarity = columns[rows] @ matrix
        lengths = np.diff(similarity.indptr)
        of = np.repeat(np.arange(rows.start, rows.start + len(lengths)), lengths)
        values = similarity.data / (norms[of] * norms[similarity.indices] + np.float32(shrinkage))
        values[of == similarity.indices] = 0
        for row in np.flatnonzero(lengths > neighbours):
            entries = values[similarity.indptr[row] : similarity.indptr[row + 1]]
            entries[entries < np.partition(entries, -neighbours)[-neighbours]] = 0
        similarity.data = values
        similarity.eliminate_zeros()
        blocks.append(similarity)
    return scipy.sparse.vstack(blocks, format="csr")


def _blocks(matrix: scipy.sparse.csr_array, columns: scipy.sparse.csr_array) -> Iterator[slice]:
    """Consecutive items of which each block is similar to at most `BLOCK_ENTRIES` items, or is one item."""
    items = matrix.shape[1]
    most = np.minimum(columns @ np.diff(matrix.indptr).astype(np.float64), items).astype(np.int64)
    ends, start = np.cumsum(most), 0
    while start < items:
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + BLOCK_ENTRIES, side="right")))
        yield slice(start, stop)
        start = stop


def fit_ease_weights(
    known: Histories, item_count: int, regularisation: float = 500.0, neighbours: int | None = None
) -> Weights:
    """Weights of EASE, to be used by `linear`; over each item's nearest ``neighbours`` alone where they are given."""
    if neighbours is None:
        return fit_ease(known.users, known.items, item_count, regularisation).astype(np.float32, order="C")
    matrix = interaction_matrix(known.users, known.items, item_count)
    return fit_local_ease(matrix, nearest_items(matrix, neighbours), regularisation)


def linear(weights: Weights, decay: float = 1.0) -> Scorer:
    """Scores h @ weights, where h is decay^age for an item of the history and 0 for any other.

    The newest item has age 0, the one before it 1; the newest occurrence of a repeated item counts. A decay of 1
    ignores the order.
    """

    def score(users: np.ndarray, histories: list[np.ndarray]) -> np.ndarray:
        newest = [np.unique(history[::-1], return_index=True) for history in histories]
        offsets = np.cumsum([0, *(len(items) for items, _ in newest)])
        items, ages = (np.concatenate(part) for part in zip(*newest, strict=True))
        values = np.power(decay, ages).astype(np.float32)
        rows = scipy.sparse.csr_array((values, items, offsets), shape=(len(histories), weights.shape[0]))
        scores = rows @ weights
        return scores.toarray() if scipy.sparse.issparse(scores) else scores

    return score


def fit_markov(known: Histories, item_count: int) -> Scorer:
    """First-order Markov chain: how often the item followed the newest one; ties by popularity."""
    users, counts = known.users, np.bincount(known.items, minlength=item_count)
    follows = users[1:] == users[:-1]
    steps = known.items[:-1][follows], known.items[1:][follows]
    ones = np.ones(follows.sum(), dtype=np.float32)
    transitions = scipy.sparse.coo_array((ones, steps), shape=(item_count, item_count)).tocsr()
    # Less than one, so that it only orders equal counts.
    popularity = (counts / (1 + counts.max(initial=0))).astype(np.float32)

    def score(users: np.ndarray, histories: list[np.ndarray]) -> np.ndarray:
        return transitions[[history[-1] for history in histories]].toarray() + popularity

    return score
