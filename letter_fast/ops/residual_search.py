"""letter_fast::residual_search: the codes of all levels in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from letter_fast import kernels
from letter_fast.kernels import reference

from . import checks


@torch.library.custom_op("letter_fast::residual_search", mutates_args=())
def residual_search(
    x: Tensor,
    codebooks: Tensor,
    sizes: list[int],
    offset: Tensor | None = None,
    with_quantized: bool = True,
    with_margins: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x [N, D] floating point, codebooks [ΣK, D] float32, level l being the next sizes[l] rows,
    offset [ΣK] float64
    -> codes [N, L] int64, quantized [N, D] float32 ([0, D] without `with_quantized`),
       margins and errors [N, L] float32 (both [0, L] without `with_margins`).
    """
    checks.rows("x", x, checks.SEARCHED)
    words = checks.codebook(codebooks, x)
    checks.levels(sizes, words)
    if offset is not None:
        checks.tensor("offset", offset, checks.FLOAT64, (words,), x.device)
    return kernels.implementation(reference.residual_search, x.device)(
        x, codebooks, sizes, offset, with_quantized, with_margins
    )


@residual_search.register_fake
def _(
    x: Tensor,
    codebooks: Tensor,
    sizes: list[int],
    offset: Tensor | None = None,
    with_quantized: bool = True,
    with_margins: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows, levels = x.shape[0], len(sizes)
    extra = (rows if with_margins else 0, levels)
    return (
        x.new_empty((rows, levels), dtype=torch.int64),
        x.new_empty((rows if with_quantized else 0, x.shape[1]), dtype=torch.float32),
        x.new_empty(extra, dtype=torch.float32),
        x.new_empty(extra, dtype=torch.float32),
    )
