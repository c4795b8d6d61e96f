"""Collaborative vectors without a model: truncated SVD of the positive PMI of items of one user."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import svds


def cooccurrence_vectors(
    sequences: Sequence[Sequence[int] | NDArray[np.int64]], items: int, width: int
) -> NDArray[np.float32]:
    """[items, width], scaled to a mean norm of 1; items never seen beside another get zeros.

    sequences: the items of each user, in any order. An item that comes twice counts twice.
    """
    user = np.repeat(np.arange(len(sequences)), [len(sequence) for sequence in sequences])
    item = np.concatenate([np.asarray(sequence, dtype=np.int64) for sequence in sequences])
    seen = sparse.csr_matrix((np.ones(len(item)), (user, item)), shape=(len(sequences), items))
    together = (seen.T @ seen).tocoo()
    apart = together.row != together.col
    row, col, count = together.row[apart], together.col[apart], together.data[apart]
    total, margin = count.sum(), np.bincount(row, weights=count, minlength=items)
    information = np.maximum(np.log(count * total / (margin[row] * margin[col])), 0.0)
    matrix = sparse.csr_matrix((information, (row, col)), shape=(items, items))
    start = np.ones(items)  # svds is reproducible from a given start
    left, values, _ = svds(matrix, k=width, v0=start)
    vectors = left[:, ::-1] * np.sqrt(values[::-1])
    norms = np.linalg.norm(vectors, axis=1)
    vectors[norms <= 1e-9] = 0.0
    scaled: NDArray[np.float32] = (vectors / norms[norms > 1e-9].mean()).astype(np.float32)
    return scaled
