"""IDs as one number or as few bytes.

Numbers are mixed radix, the first token the most significant: their order is the order of the IDs.
Bytes are FAISS's layout: token t takes ⌈log₂ K_t⌉ bits, the first token in the lowest bits of the
first byte. One byte a token it is only where every codebook has 129 to 256 codewords.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]


def pack(codes: NDArray[Any], sizes: Sequence[int]) -> Codes:
    """Σ_t code_t ∏_{u > t} K_u. codes [N, T] within `sizes` [T] -> [N]

    Raises:
        ValueError: there are more IDs than int64 has numbers.
    """
    check_packable(sizes)
    packed = np.zeros(len(codes), dtype=np.int64)
    for column, size in zip(codes.T, sizes):
        packed *= size
        packed += column
    return packed


def unpack(packed: NDArray[Any], sizes: Sequence[int]) -> Codes:
    """The inverse of `pack`. packed [N] -> [N, T]

    Raises:
        ValueError: a number is none that `pack` gives for these sizes.
    """
    check_packable(sizes)
    outside = (packed < 0) | (packed > prod(sizes) - 1)
    if outside.any():
        row = int(outside.argmax())
        raise ValueError(
            f"row {row} holds {packed[row]}; codebooks of {list(sizes)} pack to less than "
            f"{prod(sizes)}"
        )
    rest = packed.astype(np.int64)
    codes = np.empty((len(packed), len(sizes)), dtype=np.int64)
    for level in reversed(range(len(sizes))):
        rest, codes[:, level] = np.divmod(rest, sizes[level])
    return codes


def check_packable(sizes: Sequence[int]) -> None:
    """Refuses codebooks whose IDs outnumber int64: ValueError."""
    if prod(sizes) > 2**63:
        raise ValueError(
            f"IDs from codebooks of {list(sizes)} don't fit an int64: there are {prod(sizes)}, "
            "more than 2^63; pack them to bytes instead"
        )


def bits(sizes: Sequence[int]) -> list[int]:
    """Bits of each token: ⌈log₂ K⌉."""
    return [(size - 1).bit_length() for size in sizes]


def pack_bits(codes: NDArray[Any], sizes: Sequence[int]) -> NDArray[np.uint8]:
    """codes [N, T] within `sizes` [T] -> [N, ⌈Σ bits / 8⌉]"""
    widths = bits(sizes)
    packed = np.zeros((len(codes), -(-sum(widths) // 8)), dtype=np.uint8)
    begin = 0
    for column, width in zip(codes.T, widths):
        # Up to 31 bits, moved by up to 7: int64 holds them.
        moved = column.astype(np.int64) << begin % 8
        for place in range(begin // 8, -(-(begin + width) // 8)):
            packed[:, place] |= (moved & 255).astype(np.uint8)
            moved >>= 8
        begin += width
    return packed


def unpack_bits(packed: NDArray[np.uint8], sizes: Sequence[int]) -> Codes:
    """The inverse of `pack_bits`. packed [N, bytes] -> [N, T]

    Raises:
        ValueError: the rows have another number of bytes. A code may still exceed its size.
    """
    widths = bits(sizes)
    wanted = -(-sum(widths) // 8)
    if packed.ndim != 2 or packed.shape[1] != wanted or packed.dtype != np.uint8:
        raise ValueError(
            f"codebooks of {list(sizes)} pack to uint8 [N, {wanted}], "
            f"got {packed.dtype} {list(packed.shape)}"
        )
    codes = np.zeros((len(packed), len(sizes)), dtype=np.int64)
    begin = 0
    for level, width in enumerate(widths):
        first = begin // 8
        for place in range(first, -(-(begin + width) // 8)):
            codes[:, level] |= packed[:, place].astype(np.int64) << 8 * (place - first)
        codes[:, level] >>= begin % 8
        codes[:, level] &= (1 << width) - 1
        begin += width
    return codes
