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
from typing import Literal, NamedTuple, get_args

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from letter_fast import ops, validation
from letter_fast.codebooks import Codebooks, stacked
from letter_fast.kernels.refusals import check_codes

ResidualGrad = Literal["straight_through", "detach", "full", "aggregate"]
Reduction = Literal["mean", "sum"]
RESIDUAL_GRADS: tuple[ResidualGrad, ...] = get_args(ResidualGrad)
REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)


class ResidualLosses(NamedTuple):
    """quantized [N, D], straight-through to z; codebook and commitment [L], unweighted.

    errors [L] float64: both terms' sums before the reduction, Σ_i ‖r_l‖², without a gradient.
    """

    quantized: Tensor
    codebook: Tensor
    commitment: Tensor
    errors: Tensor


def residual_losses(
    z: ArrayLike,
    codebooks: Codebooks,
    sizes: Sequence[int] | None,
    codes: ArrayLike,
    *,
    residual_grad: ResidualGrad = "straight_through",
    reduction: Reduction = "mean",
) -> ResidualLosses:
    """Losses of the walk that `codes` describes.

    z [N, D] floating point; codebooks [ΣK, D] and their sizes [L], or L × [K_l, D] and None; codes
    [N, L] integers. A row of codes −1 counts nowhere and is quantized to 0. `mean` averages over
    the elements of the other rows, `sum` adds them. quantized has z's dtype; everything is computed
    in float32, float64 if z is.
    Raises:
        ValueError: shapes or dtypes don't fit, or a code is outside its codebook.
    """
    validation.choice(residual_grad, RESIDUAL_GRADS, "residual_grad")
    validation.choice(reduction, REDUCTIONS, "reduction")
    found = validation.integers(codes, "codes")
    table, sizes = stacked(codebooks, sizes)
    rows = validation.floats(z, table.shape[1], "z")
    if rows.dim() != 2 or found.shape != (len(rows), len(sizes)):
        raise ValueError(
            f"z must be [N, D] and codes [N, {len(sizes)}] for {len(sizes)} levels, got "
            f"{list(rows.shape)} and {list(found.shape)}"
        )
    validation.together(rows, {"codebooks": table, "codes": found}, "z")
    if found.is_cuda:  # elsewhere the kernels look
        check_codes(found, sizes)
    return losses_of_found(rows, table, sizes, found, residual_grad, reduction)[0]


def losses_of_found(
    z: Tensor,
    codebooks: Tensor,
    sizes: list[int],
    codes: Tensor,
    residual_grad: ResidualGrad,
    reduction: Reduction,
    commitment_weight: float = 1.0,
    with_codebook: bool = True,
) -> tuple[ResidualLosses, Tensor, Tensor]:
    """`residual_losses` of codes that a search has found: int64 and in range, so unchecked.

    z [N, D], codebooks [ΣK, D], codes [N, L] -> the terms, and with these weights the loss of each
    level [L] and their reduction []
    """
    dtype = torch.float64 if z.dtype == torch.float64 else torch.float32
    quantized, codebook, commitment, levels, loss, errors, _ = ops.residual_losses(
        z.to(dtype).contiguous(),
        codebooks.to(dtype).contiguous(),
        sizes,
        codes.contiguous(),
        residual_grad,
        reduction,
        commitment_weight,
        with_codebook,
    )
    terms = ResidualLosses(quantized.to(z.dtype), codebook, commitment, errors)
    return terms, levels, loss
