"""c_l = argmin_k ‖r_{l−1} − e_k‖², r_l = fl32(r_{l−1} − e_{c_l}): residual_search.cpp does it."""

from __future__ import annotations

import torch
from torch import Tensor

from .library import search
from .request import request


def residual_search(
    x: Tensor,
    codebooks: Tensor,
    sizes: list[int],
    offset: Tensor | None = None,
    with_quantized: bool = True,
    with_margins: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x [N, D], codebooks [ΣK, D] float32, offset [ΣK] float64
    -> codes [N, L] int64, quantized [N, D] or [0, D] float32, margins and errors [N, L] or [0, L]
    """
    rows, levels = len(x), len(sizes)
    codes = x.new_empty((rows, levels), dtype=torch.int64)
    quantized = x.new_empty((rows if with_quantized else 0, x.shape[1]), dtype=torch.float32)
    margins = x.new_empty((rows if with_margins else 0, levels), dtype=torch.float32)
    errors = torch.empty_like(margins)
    asked = request(x, codebooks, sizes, offset, codes)
    if with_quantized:
        asked.quantized = quantized.data_ptr()
    if with_margins:
        asked.margins, asked.errors = margins.data_ptr(), errors.data_ptr()
    search(asked)
    return codes, quantized, margins, errors
