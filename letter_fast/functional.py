"""The library's operations as functions of tensors; of arrays, lists and frames as well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from numpy.typing import ArrayLike
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
from letter_fast.codebooks import Codebooks, searched
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


def nearest(x: ArrayLike, codebook: ArrayLike, offset: ArrayLike | None = None) -> NearestResult:
    """argmin_k ‖x − e_k‖² + offset_k, exact in real arithmetic; the lowest k among equals.

    x [..., D] floating point (compared as float32), codebook [K, D], offset [K]
    Raises:
        ValueError: shapes or dtypes don't fit, or a row or codeword holds NaN or Inf.
    """
    table = validation.codebook(codebook)
    points = validation.floats(x, table.shape[1])
    flat = validation.folded(points)
    validation.together(points, {"codebook": table})
    code, score = ops.nearest(flat, table, _offset(offset, table))
    validation.finite_codes(code)
    return NearestResult(code.view(points.shape[:-1]), score.view(points.shape[:-1]))


def _offset(offset: ArrayLike | None, table: Tensor) -> Tensor | None:
    if offset is None:
        return None
    found = validation.tensor(offset, "offset").detach().double().contiguous()
    if found.shape != table.shape[:1]:
        raise ValueError(f"offset must have shape [{table.shape[0]}], got {list(found.shape)}")
    validation.together(table, {"offset": found})
    if not bool(found.isfinite().all()):
        raise ValueError("offset must be finite, some of it is NaN or Inf")
    return found


def residual_search(
    x: ArrayLike, codebooks: Codebooks, sizes: Sequence[int] | None = None
) -> SearchResult:
    """Codes of every level: c_l = argmin_k ‖r_{l−1} − e_k‖², r_l = fl32(r_{l−1} − e_{c_l}).

    x [..., D] floating point (searched as float32); codebooks L × [K_l, D], or [ΣK, D] and their
    sizes [L]
    Raises:
        ValueError: no level, shapes or dtypes don't fit, or a row or codeword holds NaN or Inf.
    """
    words, found = searched(codebooks, sizes)
    points = validation.floats(x, words.shape[1])
    flat = validation.folded(points)
    validation.together(points, {"codebooks": words})
    codes, quantized, _, _ = ops.residual_search(flat, words, found)
    validation.finite_codes(codes)
    shape = points.shape
    return SearchResult(codes.view(*shape[:-1], len(found)), quantized.view(shape))
