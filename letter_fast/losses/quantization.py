"""Codebook and commitment terms of residual quantization, and what of them reaches the encoder.

With codes fixed, r_0 = z and q_l = Σ_{m ≤ l} e_m. Per level, sg[·] stopping gradients:

    codebook    ‖sg[r_{l−1}] − e_l‖²          moves the codeword
    commitment  ‖r_{l−1} − sg[e_l]‖²          moves the encoder

The four modes agree in every value and differ in the residual's gradient:

    straight_through   r_l = r_{l−1} − st(e_l): zero gradient, so only level 1 commits   (LETTER)
    detach             r_l = r_{l−1} − sg[e_l]: every level commits                      (TIGER)
    full               r_l = r_{l−1} − e_l: commitment also moves earlier codewords
    aggregate          both terms compare z with the partial sum q_l, so the codebook term of
                       level l moves every codeword up to l               (RQ-VAE, Lee et al. 2022)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

RESIDUAL_GRADS = ("straight_through", "detach", "full", "aggregate")
REDUCTIONS = ("mean", "sum")


class ResidualLosses(NamedTuple):
    """quantized [N, D], straight-through to z; codebook and commitment [L], unweighted."""

    quantized: Tensor
    codebook: Tensor
    commitment: Tensor


def residual_losses(
    z: Tensor,
    codebooks: Sequence[Tensor],
    codes: Tensor,
    *,
    residual_grad: str = "straight_through",
    reduction: str = "mean",
) -> ResidualLosses:
    """Losses of the walk that `codes` describes.

    z [N, D], codebooks L × [K_l, D], codes [N, L] int64; a row of codes −1 counts nowhere and is
    quantized to 0. `mean` averages over the elements of the other rows, `sum` adds them.
    """
    valid = codes[:, :1] >= 0
    z = torch.where(valid, z, 0.0)
    elements = (valid.sum() * z.shape[1]).clamp(min=1).to(z.dtype)
    scale = 1.0 / elements if reduction == "mean" else torch.ones_like(elements)

    residual = z
    partial = torch.zeros_like(z)
    codebook_terms, commitment_terms = [], []
    for level, table in enumerate(codebooks):
        codeword = torch.where(valid, table[codes[:, level].clamp(min=0)], 0.0)
        if residual_grad == "aggregate":
            # r_{l−1} − e_l = z − q_l, the values taken from the residual chain, which loses less.
            moved = partial - partial.detach() + codeword
            residual = residual.detach() + (z - z.detach())
        else:
            moved = codeword
        codebook_terms.append((residual.detach() - moved).square().sum() * scale)
        commitment_terms.append((residual - codeword.detach()).square().sum() * scale)

        partial = partial + codeword
        if residual_grad == "straight_through":
            residual = (residual - codeword).detach()
        elif residual_grad == "full":
            residual = residual - codeword
        else:
            residual = residual - codeword.detach()

    # z − z is 0 and carries ∂q/∂z = I; the value stays the exact sum of codewords.
    quantized = partial.detach() + (z - z.detach())
    return ResidualLosses(quantized, torch.stack(codebook_terms), torch.stack(commitment_terms))
