"""The library's operations as functions of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from letter_fast import ops, validation
from letter_fast.clustering.balanced import (
    AssignmentResult,
    BalancedKMeansResult,
    balanced_assign,
    balanced_kmeans,
)
from letter_fast.clustering.kmeans import KMeansResult, kmeans
from letter_fast.clustering.sinkhorn import sinkhorn_codes
from letter_fast.losses import contrastive_loss, diversity_loss

__all__ = [
    "nearest",
    "residual_search",
    "kmeans",
    "balanced_assign",
    "balanced_kmeans",
    "sinkhorn_codes",
    "diversity_loss",
    "contrastive_loss",
    "NearestResult",
    "SearchResult",
    "KMeansResult",
    "AssignmentResult",
    "BalancedKMeansResult",
]


class NearestResult(NamedTuple):
    """code [...] int64; score [...] float64 = ‖x − e_code‖² + offset_code."""

    code: Tensor
    score: Tensor


class SearchResult(NamedTuple):
    """codes [..., L] int64; quantized [..., D] float32, the sum of the chosen codewords."""

    codes: Tensor
    quantized: Tensor


def nearest(x: Tensor, codebook: Tensor, offset: Tensor | None = None) -> NearestResult:
    """argmin_k ‖x − e_k‖² + offset_k, exact in real arithmetic; the lowest k among equals.

    x [..., D] floating point (compared as float32), codebook [K, D], offset [K]
    Raises:
        ValueError: shapes or dtypes don't fit, or a row holds NaN or Inf.
    """
    table = validation.codebook(codebook)
    flat = validation.rows(x, table.shape[1])
    if offset is not None:
        if offset.shape != table.shape[:1]:
            raise ValueError(f"offset must have shape [{table.shape[0]}], got {list(offset.shape)}")
        offset = offset.detach().double().contiguous()
        validation.together(x, {"offset": offset})
    validation.together(x, {"codebook": table})
    code, score = ops.nearest(flat, table, offset)
    validation.finite_codes(code)
    return NearestResult(code.view(x.shape[:-1]), score.view(x.shape[:-1]))


def residual_search(x: Tensor, codebooks: Sequence[Tensor]) -> SearchResult:
    """Codes of every level: c_l = argmin_k ‖r_{l−1} − e_k‖², r_l = fl32(r_{l−1} − e_{c_l}).

    x [..., D] floating point (searched as float32), codebooks L × [K_l, D]
    Raises:
        ValueError: no level, shapes or dtypes don't fit, or a row holds NaN or Inf.
    """
    if not codebooks:
        raise ValueError("codebooks is empty: at least one level is needed")
    tables = [validation.codebook(table, f"codebooks[{i}]") for i, table in enumerate(codebooks)]
    widths = [table.shape[1] for table in tables]
    if len(set(widths)) > 1:
        raise ValueError(f"codebooks must share one width, got {widths}")
    flat = validation.rows(x, widths[0])
    validation.together(x, {f"codebooks[{i}]": table for i, table in enumerate(tables)})
    codes, quantized, _, _ = ops.residual_search(
        flat, torch.cat(tables), [len(table) for table in tables]
    )
    validation.finite_codes(codes)
    return SearchResult(codes.view(*x.shape[:-1], len(tables)), quantized.view(x.shape))
