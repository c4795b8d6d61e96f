"""Checks of arguments, once, at the public functions: one clear line says what is wrong."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from letter_fast.options import shown

# What the kernels read as it is; anything else becomes float32 first.
SEARCHED_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def rows(x: Tensor, width: int, name: str = "x") -> Tensor:
    """`x` as [N, D] rows of float32, float16 or bfloat16, the leading dimensions folded into N.

    Raises:
        ValueError: not floating point, no dimension, or a last dimension other than `width`.
    """
    if not x.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {x.dtype}")
    if x.dim() == 0 or x.shape[-1] != width:
        raise ValueError(f"{name} must have a last dimension of {width}, got shape {list(x.shape)}")
    flat = x.detach().reshape(-1, width)
    return flat if flat.dtype in SEARCHED_DTYPES else flat.float()


def codebook(table: Tensor, name: str = "codebook") -> Tensor:
    """`table` as a contiguous [K, D] float32 codebook.

    Raises:
        ValueError: not a floating-point matrix, or without codewords or width.
    """
    if not table.is_floating_point() or table.dim() != 2:
        raise ValueError(
            f"{name} must be a floating-point [K, D] matrix, got {table.dtype} {list(table.shape)}"
        )
    if 0 in table.shape:
        raise ValueError(f"{name} is empty: shape {list(table.shape)}")
    return table.detach().float().contiguous()


def together(x: Tensor, others: dict[str, Tensor]) -> None:
    """Refuses tensors that aren't all where `x` is.

    Raises:
        ValueError: names the first on another device.
    """
    for name, tensor in others.items():
        if tensor.device != x.device:
            raise ValueError(f"{name} is on {tensor.device}, x on {x.device}: move one of them")


def finite_codes(codes: Tensor, name: str = "x", instead: str = "") -> None:
    """Refuses codes of which some are marked −1.

    codes [N] or [N, L]; instead: what else the caller could do than drop the rows
    Raises:
        ValueError: rows held NaN or Inf; says how many and which comes first.
    """
    marked = codes < 0 if codes.dim() == 1 else (codes < 0).any(dim=-1)
    if bool(marked.any()):
        first = int(marked.to(torch.uint8).argmax())
        raise ValueError(
            f"{int(marked.sum())} of {len(marked)} rows of {name} hold NaN or Inf (or leave the "
            f"range of float32), the first is row {first}; drop them{instead}"
        )


def whole(value: Any, name: str, least: int = 1) -> int:
    """`value` as an int of at least `least`: NumPy's are taken, truth values, text and 4.0 not.

    Raises:
        ValueError: it is none, or smaller.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return number


def choice(value: str, allowed: Iterable[str], name: str) -> str:
    """`value` if it is one of `allowed`; otherwise ValueError names the nearest one."""
    options = list(allowed)
    if value not in options:
        near = get_close_matches(value, options, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name} must be one of {', '.join(options)}, got {shown(value)}{hint}")
    return value
