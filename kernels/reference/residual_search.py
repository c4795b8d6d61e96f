"""c_l = argmin_k ‖r_{l−1} − e_k‖², r_l = fl32(r_{l−1} − e_{c_l}), r_0 = x, level by level."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .nearest import nearest_two


def residual_search(
    x: Tensor, codebooks: Tensor, sizes: list[int], with_margins: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Codes and their sum, and on request how clear each choice was and what it left over.

    x [N, D] float32, codebooks [ΣK, D] float32
    -> codes [N, L] int64; quantized [N, D] float32, the codewords added in level order;
       margins [N, L] float32, squared distance of the next distinct codeword less the nearest's;
       errors [N, L] float32, ‖r_l‖²; both [0, L] without `with_margins`.
    A row whose residual leaves the range of float32 is marked like one with NaN.
    """
    residual = x
    quantized = torch.zeros_like(x)
    codes, margins, errors = [], [], []
    for codebook in codebooks.split(sizes):
        code, score, runner_up = nearest_two(residual, codebook, None)
        codeword = codebook[code.clamp(min=0)]
        residual = residual - codeword
        quantized = quantized + codeword
        codes.append(code)
        margins.append((runner_up - score).float())
        errors.append(residual.double().square().sum(dim=1).float())

    stacked = torch.stack(codes, dim=1)
    marked = (stacked < 0).any(dim=1) | ~residual.isfinite().all(dim=1)
    stacked[marked] = -1
    quantized[marked] = 0.0
    if not with_margins:
        empty = x.new_empty((0, len(sizes)))
        return stacked, quantized, empty, empty.clone()
    margin, error = torch.stack(margins, dim=1), torch.stack(errors, dim=1)
    margin[marked] = math.nan
    error[marked] = math.nan
    return stacked, quantized, margin, error
