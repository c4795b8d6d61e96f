"""letter_fast::residual_losses: codebook and commitment terms of all levels in one pass.

Saved are x and the codes; the backward pass walks the residuals anew. Both terms of level l have
the value ‖r_l‖²; where their gradients go is a weight per level (`residual_weights`), so that the
walk need not know the modes:

    ∂x = ∂q + Σ_l to_x_l r_l        ∂e_k = −Σ_{i: c_l = k} (own_l r_l + Σ_{m > l} later_m r_m)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from letter_fast import kernels
from letter_fast.kernels import reference

from . import checks
from .once import first_derivative_only


@torch.library.custom_op("letter_fast::residual_losses", mutates_args=())
def residual_losses(
    x: Tensor,
    codebooks: Tensor,
    sizes: list[int],
    codes: Tensor,
    residual_grad: str,
    reduction: str,
    commitment_weight: float,
    with_codebook: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x [N, D], codebooks [ΣK, D] float32 or float64, codes [N, L] int64, all contiguous
    -> quantized [N, D], straight-through to x; codebook and commitment terms [L]; each level's loss
       [L] (commitment_weight · commitment, and codebook if `with_codebook`) and their reduction [];
       for the backward pass errors [L] float64, the terms' sums before the reduction, and
       scale [] float64, what it multiplies them by
    """
    _check(x, codebooks, sizes, codes)
    walk, terms = (
        kernels.implementation(one, x.device, x.dtype)
        for one in (reference.residual_losses, reference.residual_terms)
    )
    quantized, parts = walk(x, codebooks, sizes, codes)
    width, mean = x.shape[1], reduction == "mean"
    codebook, commitment, level, loss, errors, scale = terms(
        parts, width, mean, commitment_weight, with_codebook, x
    )
    return quantized, codebook, commitment, level, loss, errors, scale


@torch.library.custom_op("letter_fast::residual_losses_backward", mutates_args=())
def residual_losses_backward(
    x: Tensor,
    codebooks: Tensor,
    sizes: list[int],
    codes: Tensor,
    errors: Tensor,
    grad_quantized: Tensor,
    weights: Tensor,
) -> tuple[Tensor, Tensor]:
    """errors [L] float64, grad_quantized [N, D] contiguous, weights [3, L] float64
    -> gradients of x [N, D] and of codebooks [ΣK, D]
    """
    _check(x, codebooks, sizes, codes)
    checks.tensor("errors", errors, checks.FLOAT64, (len(sizes),), x.device)
    checks.tensor("grad_quantized", grad_quantized, (x.dtype,), x.shape, x.device)
    checks.tensor("weights", weights, checks.FLOAT64, (3, len(sizes)), x.device)
    return kernels.implementation(reference.residual_losses_backward, x.device, x.dtype)(
        x, codebooks, sizes, codes, errors, grad_quantized, weights
    )


def _check(x: Tensor, codebooks: Tensor, sizes: list[int], codes: Tensor) -> None:
    checks.tensor("x", x, checks.LOSSES, (None, None), x.device)
    checks.levels(sizes, checks.codebook(codebooks, x, x.dtype))
    checks.tensor("codes", codes, checks.INT64, (len(x), len(sizes)), x.device)


@residual_losses.register_fake
def _(
    x: Tensor,
    codebooks: Tensor,
    sizes: list[int],
    codes: Tensor,
    residual_grad: str,
    reduction: str,
    commitment_weight: float,
    with_codebook: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    terms, errors = x.new_empty(len(sizes)), x.new_empty(len(sizes), dtype=torch.float64)
    one, other = torch.empty_like(terms), torch.empty_like(terms)
    return (
        torch.empty_like(x),
        terms,
        one,
        other,
        terms.new_empty(()),
        errors,
        errors.new_empty(()),
    )


@residual_losses_backward.register_fake
def _(
    x: Tensor,
    codebooks: Tensor,
    sizes: list[int],
    codes: Tensor,
    errors: Tensor,
    grad_quantized: Tensor,
    weights: Tensor,
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(codebooks)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, codebooks, ctx.sizes, codes, ctx.residual_grad, reduction, *ctx.weights = inputs
    ctx.mean = reduction == "mean"
    errors, scale = output[5:]
    ctx.mark_non_differentiable(errors, scale)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, codebooks, codes, errors, scale)


def _backward(
    ctx: Any, grad_quantized: Tensor | None, *slopes: Tensor | None
) -> tuple[Tensor | None, ...]:
    first_derivative_only("residual_losses")
    x, codebooks, codes, errors, scale = ctx.saved_tensors
    weights = kernels.implementation(reference.residual_weights, x.device, x.dtype)(
        ctx.residual_grad, list(slopes[:4]), scale, len(ctx.sizes), ctx.mean, *ctx.weights
    )
    if grad_quantized is None:
        grad_quantized = torch.zeros_like(x)
    grad_x, grad_codebooks = residual_losses_backward(
        x, codebooks, ctx.sizes, codes, errors, grad_quantized.contiguous(), weights
    )
    return grad_x, grad_codebooks, None, None, None, None, None, None


residual_losses.register_autograd(_backward, setup_context=_save)
