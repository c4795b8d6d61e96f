"""Inputs and outputs: checks, padding taken out and put back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from letter_fast import validation


def check_rows(x: Tensor, width: int) -> None:
    """Refuses what isn't a floating-point tensor [..., width]."""
    if not isinstance(x, Tensor):
        raise ValueError(
            f"x must be a tensor, got {type(x).__name__}: torch.as_tensor makes it one"
        )
    if not x.is_floating_point() or x.shape[-1:] != (width,):
        raise ValueError(
            f"x must be floating point with a last dimension of {width}, got {x.dtype} "
            f"{list(x.shape)}"
        )


def kept_rows(x: Tensor, mask: Tensor | None, width: int) -> Tensor:
    """The rows that aren't padding. x [..., D], mask bool [...] -> [N, D]"""
    check_rows(x, width)
    if mask is None:
        return x.reshape(-1, width)
    known = isinstance(mask, Tensor)
    if not known or mask.dtype != torch.bool or mask.shape != x.shape[:-1]:
        got = f"{mask.dtype} {list(mask.shape)}" if known else type(mask).__name__
        raise ValueError(
            f"mask must be a bool tensor {list(x.shape[:-1])}, True for rows that count, got {got}"
        )
    return x[mask]


def check_indices(indices: Tensor, sizes: Sequence[int]) -> None:
    """Refuses codes [..., l ≤ L] that name no codeword and aren't −1: ValueError says which."""
    if indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
        raise ValueError(f"indices must be integers, got {indices.dtype}")
    codes = indices.reshape(-1, indices.shape[-1]).long()
    outside = (codes >= codes.new_tensor(sizes[: codes.shape[1]])) | (codes < -1)
    if bool(outside.any()):
        row, level = (int(at) for at in outside.nonzero()[0])
        found = int(codes[row, level])
        raise ValueError(
            f"index {found} of row {row} is outside the codebook, which has 0 to {sizes[level] - 1}"
        )


def check_chosen(codes: Tensor, words: Tensor) -> None:
    """Refuses codes of which some are −1, and codewords that hold NaN or Inf, which no search
    chooses: one question to the device. codes [N] or [N, L], words [K, D]"""
    if bool((codes < 0).any() | ~words.isfinite().all()):
        validation.finite_codes(words.isfinite().all(dim=1).long() - 1, "the codebook")
        validation.finite_codes(codes)


def as_computed(rows: Tensor) -> Tensor:
    """float64 as it is, anything else as float32."""
    return rows if rows.dtype == torch.float64 else rows.float()


def put_back(rows: Tensor, mask: Tensor | None, blank: Tensor) -> Tensor:
    """`blank` [...] with its rows of mask, or all of them, replaced."""
    return rows.view(blank.shape) if mask is None else blank.index_put((mask,), rows)


def blank_codes(shape: torch.Size, like: Tensor) -> Tensor:
    """Codes that name nothing, −1, where `like` is."""
    return torch.full(shape, -1, dtype=torch.int64, device=like.device)
