"""The sums and gradients that the losses of residual quantization need, level by level of codes.

    r_0 = x,   r_l = fl32(r_{l−1} − e_{c_l}),   q = Σ_l e_{c_l},   error_l = Σ_i ‖r_l‖²

Both loss terms of a level are its error; how their gradients flow is in the weights that the
backward pass is given (`residual_weights` has them for every mode):

    ∂x = ∂q + Σ_l to_x_l r_l        ∂e_k = −Σ_{i: c_l = k} (own_l r_l + Σ_{m > l} later_m r_m)
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..refusals import check_codes


def residual_losses(
    x: Tensor, codebooks: Tensor, sizes: list[int], codes: Tensor
) -> tuple[Tensor, Tensor]:
    """q = Σ_l e_{c_l} and Σ_i ‖r_l‖² of the walk r_l = r_{l−1} − e_{c_l}.

    x [N, D], codebooks [ΣK, D], codes [N, L] int64 (a row of −1 counts nowhere)
    -> quantized [N, D], parts [S, L + 1] float64: rows that add up to the error of each level and,
       last, the number of rows that count
    """
    residuals, words = _walk(x, codebooks, sizes, codes)
    quantized = torch.zeros_like(x)
    for word in words:
        quantized = quantized + word
    errors = torch.stack([residual.double().square().sum() for residual in residuals])
    counted = (codes[:, 0] >= 0).sum().double()
    return quantized, torch.cat([errors, counted.view(1)])[None]


def residual_terms(
    parts: Tensor,
    width: int,
    mean: bool,
    commitment_weight: float,
    with_codebook: bool,
    like: Tensor,
) -> tuple[Tensor, ...]:
    """The loss terms, from `parts` of rows of this width.

    Each term is a level's error, over the number of elements that count if `mean`. A level's loss
    is commitment_weight · commitment + codebook, the latter if `with_codebook`; their mean or sum
    is the loss. -> codebook, commitment, level [L] and loss [] of like's dtype, errors [L] and
    scale [] float64, what the terms are multiplied by
    """
    sums = parts.sum(dim=0)
    errors, counted = sums[:-1].clone(), sums[-1]
    elements = (counted * width).clamp(min=1)
    scale = elements.reciprocal() if mean else torch.ones_like(elements)
    codebook = (errors * scale).to(like.dtype)  # in float64, then rounded
    commitment = codebook.clone()
    level = commitment_weight * commitment
    if with_codebook:
        level = codebook + level
    return codebook, commitment, level, level.mean() if mean else level.sum(), errors, scale


def residual_weights(
    residual_grad: str,
    slopes: list[Tensor | None],
    scale: Tensor,
    levels: int,
    mean: bool,
    commitment_weight: float,
    with_codebook: bool,
) -> Tensor:
    """to_x, own and later of each level, from the slopes of what `residual_terms` gave.

    slopes: of codebook, commitment, level [L] and loss []; None: not used
    The codebook term of level l moves e_l by −r_l; only in `aggregate`, which compares z with the
    partial sum, the earlier ones too. The commitment term moves z by r_l, in `straight_through`
    only at level 1; in `full` also the earlier codewords. -> [3, L] float64
    """
    codebook, commitment, level, loss = slopes
    dtype = next((slope.dtype for slope in slopes if slope is not None), scale.dtype)
    nothing = scale.new_zeros(levels, dtype=dtype)
    if loss is not None:
        each = (loss / levels if mean else loss).expand(levels)
        level = each if level is None else level + each
    if level is not None:
        weighted = commitment_weight * level
        commitment = weighted if commitment is None else commitment + weighted
        if with_codebook:
            codebook = level if codebook is None else codebook + level
    own = nothing if codebook is None else codebook
    moved = nothing if commitment is None else commitment
    to_x, later = [moved], nothing
    if residual_grad == "straight_through":
        to_x = [moved[:1], nothing[1:]]
    elif residual_grad == "full":
        later = moved
    elif residual_grad == "aggregate":
        later = own
    return torch.cat([*to_x, own, later]).view(3, -1) * (2 * scale).view(1)


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
