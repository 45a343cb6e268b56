"""EASE, the shallow linear autoencoder (Steck, 2019, "Embarrassingly Shallow Autoencoders for Sparse Data")."""

from collections.abc import Iterator

import numpy as np
import scipy.linalg
import scipy.sparse

from frugal.errors import FrugalError
from frugal.run.resources import MB, memory_limit_mb


def interaction_matrix(users: np.ndarray, items: np.ndarray, item_count: int) -> scipy.sparse.csr_array:
    """X: float32, (users that occur, item_count), 1 where a user has had an item, however often."""
    _, rows = np.unique(users, return_inverse=True)
    ones = np.ones(len(rows), dtype=np.float32)
    matrix = scipy.sparse.coo_array((ones, (rows, items)), shape=(rows.max(initial=-1) + 1, item_count)).tocsr()
    matrix.data[:] = 1  # repeated interactions were summed
    return matrix


def co_occurrences(matrix: scipy.sparse.csr_array, block: int = 512) -> Iterator[tuple[slice, np.ndarray]]:
    """X'X in blocks of rows: which items, and float32, (block, item_count): how many users have had both."""
    columns = matrix.T.tocsr()
    for start in range(0, matrix.shape[1], block):
        rows = slice(start, start + block)
        yield rows, (columns[rows] @ matrix).toarray()


def ease_bytes(item_count: int) -> int:
    """Bytes that `fit_ease` holds at its peak: its weights in float64, and a copy in float32."""
    return 12 * item_count**2


def beyond_memory(item_count: int, granted_mb: float | None = None) -> str:
    """Why EASE over ``item_count`` items cannot be fitted in this process; empty where it can.

    Args:
        granted_mb: the job's memory, MB (2^20 bytes), where that is less than the machine's or its cgroup's limit.
    """
    limits = [limit for limit in (granted_mb, memory_limit_mb()) if limit is not None]
    if not limits or ease_bytes(item_count) <= min(limits) * MB:
        return ""
    return f"not computed: needs {_size(ease_bytes(item_count))} of memory, and has {_size(min(limits) * MB)}"


def _size(count: float) -> str:
    """``3.0 TB`` of 3e12 bytes."""
    unit, size = ("TB", 1e12) if count >= 1e12 else ("GB", 1e9)
    return f"{count / size:.1f} {unit}"


def fit_ease(users: np.ndarray, items: np.ndarray, item_count: int, regularisation: float = 250.0) -> np.ndarray:
    """Item-item weights from implicit feedback.

    Args:
        users, items: n interactions as zero-based ids; repeated ones count once.
        item_count: the size of the catalogue.
        regularisation: lambda, added to the Gram matrix's diagonal.

    Returns:
        float64, item_count x item_count, zero diagonal: a history h (0/1 over items) scores items by h @ B.
        B = I - P diagMat(1 / diag(P)) with P = (X'X + lambda I)^-1, equation 8 of the paper.

    Raises:
        FrugalError: it does not fit into the memory, see `beyond_memory`.
    """
    if reason := beyond_memory(item_count):
        raise FrugalError(f"EASE over {item_count} items: {reason}; use a larger machine or a smaller catalogue")
    gram = np.empty((item_count, item_count))
    for rows, counts in co_occurrences(interaction_matrix(users, items, item_count)):
        gram[rows] = counts
    gram[np.diag_indices(item_count)] += regularisation
    # Symmetric, so its transpose is itself, in the layout in which LAPACK inverts in place.
    weights = scipy.linalg.inv(gram.T, overwrite_a=True, assume_a="pos")
    weights /= -np.diag(weights).copy()
    np.fill_diagonal(weights, 0)
    return weights


def fit_local_ease(
    matrix: scipy.sparse.csr_array, neighbours: scipy.sparse.csr_array, regularisation: float
) -> scipy.sparse.csr_array:
    """EASE whose weights are zero outside ``neighbours``: for catalogues whose dense inverse fits no memory.

    Column j of EASE is the ridge regression of item j on all other items. Here it is the ridge regression on
    the neighbours of j alone, which is how SLIM selects features (Ning and Karypis, 2011, "SLIM: Sparse Linear
    Methods for Top-N Recommender Systems"); with every other item as a neighbour it is EASE itself.

    Args:
        matrix: X, (users, items), see `interaction_matrix`.
        neighbours: (items, items): the non-zero entries of row j are the neighbours of item j, never j itself.

    Returns:
        float32, (items, items), to be used as the weights of `fit_ease`.
    """
    columns = matrix.tocsc()
    weights = np.empty(neighbours.nnz, dtype=np.float32)
    for item in range(neighbours.shape[0]):
        entries = slice(neighbours.indptr[item], neighbours.indptr[item + 1])
        near = columns[:, neighbours.indices[entries]]
        gram = (near.T @ near).toarray().astype(np.float64)
        gram[np.diag_indices(len(gram))] += regularisation
        target = (near.T @ columns[:, [item]]).toarray()[:, 0]
        weights[entries] = np.linalg.solve(gram, target)
    return scipy.sparse.csr_array((weights, neighbours.indices, neighbours.indptr), shape=neighbours.shape).T.tocsr()
