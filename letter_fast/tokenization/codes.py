"""Codes and token ids as callers give them: arrays of integers, within what there is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from letter_fast import validation
from letter_fast.options import shown

_LARGEST = 2**31  # files hold codes as int32


def first_outside(codes: NDArray[Any], sizes: Sequence[int]) -> int | None:
    """The first row, of the first column there is one in, that names no codeword.

    codes [N, T] integers, sizes [T]
    """
    for column, size in zip(codes.T, sizes):
        outside = (column < 0) | (column >= size)
        if outside.any():
            return int(outside.argmax())
    return None


def check_codes(name: str, codes: NDArray[Any], sizes: Sequence[int]) -> None:
    """Refuses anything but integers [N, T] within `sizes` [T]: ValueError names the first row."""
    if codes.ndim != 2 or codes.shape[1] != len(sizes):
        raise ValueError(
            f"{name} must be [N, {len(sizes)}] for {len(sizes)} codebooks, got {list(codes.shape)}"
        )
    if not np.issubdtype(codes.dtype, np.integer):
        raise ValueError(f"{name} must be integers, got {codes.dtype}")
    if (row := first_outside(codes, sizes)) is not None:
        raise ValueError(
            f"row {row} of {name} is {codes[row].tolist()}, outside codebooks of {list(sizes)}"
        )


def checked_sizes(sizes: Sequence[int]) -> list[int]:
    """The T codebook sizes of IDs as ints.

    Raises:
        ValueError: none, or one that isn't an integer of 1 to 2³¹.
    """
    if isinstance(sizes, str | bytes) or not isinstance(sizes, Iterable):
        raise ValueError(f"sizes must be a list of integers, got {shown(sizes)}")
    found = [validation.integer(size, "each of sizes", 1, _LARGEST) for size in sizes]
    if not found:
        raise ValueError("sizes are empty: an ID has at least one code")
    return found


def checked_token_ids(values: ArrayLike, name: str = "sequences") -> NDArray[np.int64]:
    """Token ids as int64, of any shape.

    Raises:
        ValueError: not an array of integers.
    """
    try:
        found = np.asarray(values)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{name} must be an array of token ids: {error}") from error
    if found.size == 0:
        return np.empty(found.shape, dtype=np.int64)
    if not np.issubdtype(found.dtype, np.integer):
        raise ValueError(f"{name} must hold token ids, which are integers, got {found.dtype}")
    return found.astype(np.int64)


def token_id(value: Any, name: str = "start") -> int:
    """A token id or a number of tokens.

    Raises:
        ValueError: no integer, or negative.
    """
    return validation.integer(value, name, 0)
