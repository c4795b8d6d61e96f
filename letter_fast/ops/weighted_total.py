"""letter_fast::weighted_total: LETTER's total of one step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from letter_fast import kernels
from letter_fast.kernels import reference

from . import checks
from .once import first_derivative_only


@torch.library.custom_op("letter_fast::weighted_total", mutates_args=())
def weighted_total(
    error: Tensor,
    quantization: Tensor,
    cf: Tensor,
    diversity: Tensor,
    elements: int,
    weights: list[float],
    mean: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """error, quantization, cf [], diversity [L] float32 or float64; weights: w_rq, β, α
    -> total, recon (error / elements) and diversity (mean or sum over levels) []
    """
    checks.tensor("error", error, checks.LOSSES, (), error.device)
    for name, term in {"quantization": quantization, "cf": cf}.items():
        checks.tensor(name, term, (error.dtype,), (), error.device)
    checks.tensor("diversity", diversity, (error.dtype,), (None,), error.device, strided=True)
    return kernels.implementation(reference.weighted_total, error.device, error.dtype)(
        error, quantization, cf, diversity, elements, weights, mean
    )


@torch.library.custom_op("letter_fast::weighted_total_backward", mutates_args=())
def weighted_total_backward(
    slopes: list[Tensor | None],
    like: Tensor,
    elements: int,
    weights: list[float],
    mean: bool,
    levels: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """slopes []: of total, recon and diversity; None: not used
    -> of error, quantization, cf [] and diversity [L]
    """
    return kernels.implementation(reference.weighted_total_backward, like.device, like.dtype)(
        slopes, like, elements, weights, mean, levels
    )


@weighted_total.register_fake
def _(
    error: Tensor,
    quantization: Tensor,
    cf: Tensor,
    diversity: Tensor,
    elements: int,
    weights: list[float],
    mean: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return error.new_empty(()), error.new_empty(()), error.new_empty(())


@weighted_total_backward.register_fake
def _(
    slopes: list[Tensor | None],
    like: Tensor,
    elements: int,
    weights: list[float],
    mean: bool,
    levels: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    error, quantization, cf = (like.new_empty(()) for _ in range(3))
    return error, quantization, cf, like.new_empty(levels)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, _, _, diversity, *ctx.how = inputs
    ctx.levels = len(diversity)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[0])


def _backward(ctx: Any, *slopes: Tensor | None) -> tuple[Tensor | None, ...]:
    first_derivative_only("the total of Letter.losses")
    (total,) = ctx.saved_tensors
    found = weighted_total_backward(list(slopes), total, *ctx.how, ctx.levels)
    return *found, None, None, None


weighted_total.register_autograd(_backward, setup_context=_save)
