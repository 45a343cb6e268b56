"""EASE, the shallow linear autoencoder (Steck, 2019, "Embarrassingly Shallow Autoencoders for Sparse Data")."""

import numpy as np


def fit_ease(users: np.ndarray, items: np.ndarray, item_count: int, regularisation: float = 250.0) -> np.ndarray:
    """Item-item weights from implicit feedback.

    Args:
        users, items: n interactions as zero-based ids; repeated ones count once.
        item_count: the size of the catalogue.
        regularisation: lambda, added to the Gram matrix's diagonal.

    Returns:
        float64, item_count x item_count, zero diagonal: a history h (0/1 over items) scores items by h @ B.
        B = I - P diagMat(1 / diag(P)) with P = (X'X + lambda I)^-1, equation 8 of the paper.
    """
    _, rows = np.unique(users, return_inverse=True)
    interactions = np.zeros((rows.max(initial=-1) + 1, item_count), dtype=np.float32)
    interactions[rows, items] = 1
    gram = (interactions.T @ interactions).astype(np.float64)
    gram[np.diag_indices(item_count)] += regularisation
    inverse = np.linalg.inv(gram)
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights
