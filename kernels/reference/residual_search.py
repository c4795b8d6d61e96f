"""c_l = argmin_k ‖r_{l−1} − e_k‖², r_l = fl32(r_{l−1} − e_{c_l}), r_0 = x, level by level."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .nearest import nearest_two


def residual_search(
    x: Tensor,
    codebooks: Tensor,
    sizes: list[int],
    offset: Tensor | None = None,
    with_quantized: bool = True,
    with_margins: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`nearest` chained over levels, r_l = fl32(r_{l−1} − e_c).

    x [N, D], codebooks [ΣK, D] float32, offset [ΣK] float64
    -> codes [N, L] int64;
       quantized [N, D] float32, the codewords added in level order; [0, D] unless asked for;
       margins [N, L] float32, the score of the next distinct codeword less the chosen one's;
       errors [N, L] float32, ‖r_l‖²; both [0, L] unless asked for.
    A row whose residual leaves the range of float32 is marked like one with NaN.
    """
    residual = x.float()
    quantized = torch.zeros_like(residual)
    codes, margins, errors = [], [], []
    shifts = [None] * len(sizes) if offset is None else offset.split(sizes)
    for codebook, shift in zip(codebooks.split(sizes), shifts):
        code, score, runner_up = nearest_two(residual, codebook, shift)
        codeword = codebook[code.clamp(min=0)]
        residual = residual - codeword
        quantized = quantized + codeword
        codes.append(code)
        margins.append((runner_up - score).clamp(min=0.0).float())
        errors.append(residual.double().square().sum(dim=1).float())

    stacked = torch.stack(codes, dim=1)
    marked = (stacked < 0).any(dim=1) | ~residual.isfinite().all(dim=1)
    stacked[marked] = -1
    quantized[marked] = 0.0
    if not with_quantized:
        quantized = quantized[:0].clone()
    if not with_margins:
        empty = residual.new_empty((0, len(sizes)))
        return stacked, quantized, empty, empty.clone()
    margin, error = torch.stack(margins, dim=1), torch.stack(errors, dim=1)
    margin[marked] = math.nan
    error[marked] = math.nan
    return stacked, quantized, margin, error
