"""The sums and gradients that the losses of residual quantization need, level by level of codes.

    r_0 = x,   r_l = fl32(r_{l−1} − e_{c_l}),   q = Σ_l e_{c_l},   error_l = Σ_i ‖r_l‖²

Both loss terms of a level are its error; how their gradients flow is in the weights that the
backward pass is given (`letter_fast/ops/residual_losses.py` has them for every mode):

    ∂x = ∂q + Σ_l to_x_l r_l        ∂e_k = −Σ_{i: c_l = k} (own_l r_l + Σ_{m > l} later_m r_m)
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..refusals import check_codes


def residual_losses(
    x: Tensor, codebooks: Tensor, sizes: list[int], codes: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """q = Σ_l e_{c_l} and Σ_i ‖r_l‖² of the walk r_l = r_{l−1} − e_{c_l}.

    x [N, D], codebooks [ΣK, D], codes [N, L] int64 (a row of −1 counts nowhere)
    -> quantized [N, D], errors [L] float64, counted [] int64 (or float64)
    """
    residuals, words = _walk(x, codebooks, sizes, codes)
    quantized = torch.zeros_like(x)
    for word in words:
        quantized = quantized + word
    errors = torch.stack([residual.double().square().sum() for residual in residuals])
    return quantized, errors, (codes[:, 0] >= 0).sum()


def residual_losses_backward(
    x: Tensor,
    codebooks: Tensor,
    sizes: list[int],
    codes: Tensor,
    errors: Tensor,
    grad_quantized: Tensor,
    weights: Tensor,
) -> tuple[Tensor, Tensor]:
    """∂x = ∂q + Σ_l to_x_l r_l and ∂e_k = −Σ_{i: c_l = k} (own_l r_l + Σ_{m > l} later_m r_m).

    errors [L] as residual_losses gave them, which bound every sum; grad_quantized [N, D],
    weights [3, L] float64: to_x, own, later
    -> gradients of x [N, D] and of codebooks [ΣK, D]
    """
    residuals, _ = _walk(x, codebooks, sizes, codes)
    valid = codes[:, :1] >= 0
    grad_x = torch.where(valid, grad_quantized.double(), 0.0)
    carried = torch.zeros_like(grad_x)
    parts: list[Tensor] = []
    for level in reversed(range(len(sizes))):
        to_x, own, later = weights[:, level]
        residual = residuals[level].double()
        grad_x = grad_x + to_x * residual
        part = residual.new_zeros((sizes[level], x.shape[1]))
        part = part.index_add(0, codes[:, level].clamp(min=0), own * residual + carried)
        parts.insert(0, 0.0 - part)
        carried = carried + later * residual
    return grad_x.to(x.dtype), torch.cat(parts).to(x.dtype)


def _walk(
    x: Tensor, codebooks: Tensor, sizes: list[int], codes: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """r_l and e_{c_l} of every level, [N, D] each; 0 for marked rows."""
    check_codes(codes, sizes)
    valid = codes[:, :1] >= 0
    residual = torch.where(valid, x, 0.0)
    residuals, words = [], []
    for code, codebook in zip(codes.unbind(1), codebooks.split(sizes)):
        word = torch.where(valid, codebook[code.clamp(min=0)], 0.0)
        residual = residual - word
        residuals.append(residual)
        words.append(word)
    return residuals, words
