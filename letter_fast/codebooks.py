"""The one meaning of `codebooks`: the L codebooks of a quantizer, level after level.

In one of two forms, of which every public function takes either:

    codebooks [ΣK, D] and sizes [L]    stacked: level l is the next sizes[l] rows. So are
                                       `ResidualQuantizer.codebooks` and `codebook_sizes`
    codebooks L × [K_l, D], no sizes   a list of them, or [L, K, D]

Never padded. One level's is a `codebook` [K, D].
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from letter_fast import validation

Codebooks = ArrayLike | Sequence[ArrayLike]


def stacked(codebooks: Codebooks, sizes: Sequence[int] | None) -> tuple[Tensor, list[int]]:
    """Codebooks of either form as one floating-point tensor, its gradient kept.

    -> [ΣK, D], sizes [L]
    Raises:
        ValueError: no level, shapes, dtypes or devices that don't fit.
    """
    if sizes is not None:
        table = validation.tensor(codebooks, "codebooks")
        if table.dim() != 2 or table.shape[1] == 0:
            raise ValueError(f"codebooks must be [ΣK, D] where sizes are, got {list(table.shape)}")
        table = validation.floats(table, table.shape[1], "codebooks")
        return table, validation.divides(sizes, len(table))
    tables = [
        validation.codebook_matrix(codebook, f"codebooks[{level}]")
        for level, codebook in enumerate(_levels(codebooks))
    ]
    widths = [table.shape[1] for table in tables]
    if len(set(widths)) > 1:
        raise ValueError(f"codebooks must share one width, got {widths}")
    others = {f"codebooks[{level}]": table for level, table in enumerate(tables)}
    validation.together(tables[0], others, "codebooks[0]")
    table = validation.floats(torch.cat(tables), widths[0], "codebooks")
    return table, [len(codebook) for codebook in tables]


def searched(codebooks: Codebooks, sizes: Sequence[int] | None = None) -> tuple[Tensor, list[int]]:
    """Codebooks of either form as a search takes them: detached, finite float32.

    -> [ΣK, D] contiguous, sizes [L]
    Raises:
        ValueError: as `stacked`, or a codeword holds NaN or Inf.
    """
    table, found = stacked(codebooks, sizes)
    words = table.detach().float().contiguous()
    for level, codebook in enumerate(words.split(found)):
        validation.finite_codewords(codebook, f"codebooks[{level}]")
    return words, found


def _levels(codebooks: Any) -> list[ArrayLike]:
    """Codebooks that are given without sizes, one by one."""
    if isinstance(codebooks, (str, bytes, Mapping)) or not isinstance(codebooks, Iterable):
        raise ValueError(f"codebooks must be a list of them, got {type(codebooks).__name__}")
    shape = getattr(codebooks, "shape", ())
    if len(shape) == 2:
        raise ValueError(
            f"codebooks of shape {list(shape)} are stacked: give their sizes as well "
            "(those of a quantizer are its codebook_sizes), or a list of codebooks"
        )
    levels = list(codebooks)
    if not levels:
        raise ValueError("codebooks is empty: at least one level is needed")
    return levels
