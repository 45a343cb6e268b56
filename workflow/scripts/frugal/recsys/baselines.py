"""Recommenders without a network: popularity, item neighbours, linear autoencoders, a Markov chain.

Each is fitted on everything but the test items, the validation items included (``split.context("test")``);
networks give theirs up to choose when training stops. The defaults reproduce what is known of MovieLens-100K
under leave-one-out with full ranking; `tests/unit/recsys/test_baselines.py` holds them to it.
"""

import numpy as np
import scipy.sparse

from frugal.recsys.ease import co_occurrences, fit_ease, fit_local_ease, interaction_matrix
from frugal.recsys.evaluation import Scorer
from frugal.recsys.histories import Histories, Split

#: Larger catalogues get EASE by neighbours: here the dense one takes 11 GB. Fixed, not read from the machine,
#: so that a result does not depend on where it was computed.
DENSE_ITEMS = 30_000
LOCAL_NEIGHBOURS = 100

Weights = np.ndarray | scipy.sparse.csr_array


def fit_baselines(
    split: Split,
    item_knn_neighbours: int = 20,
    item_knn_shrinkage: float = 0.0,
    ease_regularisation: float = 500.0,
    recency_decay: float = 0.8,
) -> dict[str, Scorer]:
    """All baselines, by name; those that need an order in time are left out where the split has none."""
    known, item_count = split.context("test"), split.item_count
    ease = fit_ease_weights(known, item_count, ease_regularisation)
    scorers = {
        "popularity": fit_popularity(known, item_count),
        "item_knn": linear(fit_item_knn(known, item_count, item_knn_neighbours, item_knn_shrinkage)),
        "ease": linear(ease),
    }
    if split.ordered:
        scorers |= {"ease_recency": linear(ease, recency_decay), "markov": fit_markov(known, item_count)}
    return scorers


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

    Items as similar as the last of the nearest are kept as well: no order of ids decides.
    """
    norms = np.sqrt(matrix.sum(axis=0))
    blocks = []
    for rows, similarity in co_occurrences(matrix):
        # Items that nobody has had are similar to nothing: 0 / 1.
        denominator = norms[rows, None] * norms + np.float32(shrinkage)
        similarity /= np.where(denominator > 0, denominator, 1)
        here = np.arange(len(similarity))
        similarity[here, rows.start + here] = 0
        if neighbours < similarity.shape[1]:
            last = -np.partition(-similarity, neighbours - 1, axis=1)[:, neighbours - 1]
            similarity[similarity < last[:, None]] = 0
        blocks.append(scipy.sparse.csr_array(similarity))
    return scipy.sparse.vstack(blocks, format="csr")


def fit_ease_weights(known: Histories, item_count: int, regularisation: float = 500.0) -> Weights:
    """Weights of EASE, to be used by `linear`; by each item's neighbours beyond `DENSE_ITEMS` items."""
    if item_count <= DENSE_ITEMS:
        return fit_ease(known.users, known.items, item_count, regularisation).astype(np.float32, order="C")
    matrix = interaction_matrix(known.users, known.items, item_count)
    return fit_local_ease(matrix, nearest_items(matrix, LOCAL_NEIGHBOURS), regularisation)


def linear(weights: Weights, decay: float = 1.0) -> Scorer:
    """Scores h @ weights, where h is 0 for what is not in the history and decay^age for what is.

    Age counts back from 0 for the newest item; of a repeated item the newest occurrence counts. A decay of 1
    forgets the order.
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
    """First-order Markov chain: how often the item followed the newest one, then how popular it is."""
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
