"""Eight bytes of an embedding, by which a later run sees that an item's embedding is another now.

    digest = Σ_j m_j b_j mod 2^64    b: the row's float32 bytes, eight at a time; m: odd, fixed

Rows that differ in one of the b have different digests for certain, other rows but for a chance of
some 2^-50. 0 stands for an unknown digest; a row that has it gets 1, as a row of zeros does.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from letter_fast.catalog import Embeddings
from letter_fast.catalog.batching import ahead
from letter_fast.catalog.embeddings import Floats

Digests = NDArray[np.uint64]

UNKNOWN, OF_ZEROS = np.uint64(0), np.uint64(1)
BYTES = 8


def row_digests(rows: Floats) -> Digests:
    """rows [B, S] float32 -> [B]"""
    numbers = np.ascontiguousarray(rows, dtype="<f4")
    even = numbers.shape[1] // 2 * 2
    odd_numbers = _multipliers(even // 2 + 1)
    pairs = np.ascontiguousarray(numbers[:, :even]).view("<u8")
    digests: Digests = np.einsum("ij,j->i", pairs, odd_numbers[: even // 2])
    if even < numbers.shape[1]:
        last = np.ascontiguousarray(numbers[:, even]).view("<u4").astype(np.uint64)
        digests = digests + last * odd_numbers[-1]
    return np.maximum(digests, OF_ZEROS)


def digests_of(catalog: Embeddings, rows: NDArray[np.int64], batch_size: int) -> Digests:
    """Digests of chosen rows of a catalog, which are read once. rows [R] ascending -> [R]"""
    parts = [row_digests(batch) for batch in ahead(catalog.batches_of(rows, batch_size))]
    return np.concatenate([np.zeros(0, dtype=np.uint64), *parts])


@lru_cache(maxsize=8)
def _multipliers(count: int) -> Digests:
    """The first so many of one endless sequence. It must never change: files hold digests."""
    stream = hashlib.shake_256(b"letter-fast embedding digest").digest(BYTES * count)
    return np.frombuffer(stream, dtype="<u8").astype(np.uint64) | np.uint64(1)
