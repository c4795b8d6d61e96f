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

from letter_fast import ops

RESIDUAL_GRADS = ("straight_through", "detach", "full", "aggregate")
REDUCTIONS = ("mean", "sum")


class ResidualLosses(NamedTuple):
    """quantized [N, D], straight-through to z; codebook and commitment [L], unweighted.

    errors [L] float64: both terms' sums before the reduction, Σ_i ‖r_l‖², without a gradient.
    """

    quantized: Tensor
    codebook: Tensor
    commitment: Tensor
    errors: Tensor


def residual_losses(
    z: Tensor,
    codebooks: Tensor,
    sizes: Sequence[int],
    codes: Tensor,
    *,
    residual_grad: str = "straight_through",
    reduction: str = "mean",
) -> ResidualLosses:
    """Losses of the walk that `codes` describes.

    z [N, D] floating point, codebooks [ΣK, D], level l being the next sizes[l] rows, codes [N, L]
    int64; a row of codes −1 counts nowhere and is quantized to 0. `mean` averages over the elements
    of the other rows, `sum` adds them. quantized has z's dtype; everything is computed in float32,
    float64 if z is.
    """
    dtype = torch.float64 if z.dtype == torch.float64 else torch.float32
    quantized, codebook, commitment, errors, _ = ops.residual_losses(
        z.to(dtype).contiguous(),
        codebooks.to(dtype).contiguous(),
        list(sizes),
        codes.contiguous(),
        residual_grad,
        reduction,
    )
    return ResidualLosses(quantized.to(z.dtype), codebook, commitment, errors)
