"""letter_fast::diversity: LETTER's diversity loss of all levels; its gradient comes with it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from letter_fast import kernels
from letter_fast.kernels import reference

from . import checks
from .once import first_derivative_only


@torch.library.custom_op("letter_fast::diversity", mutates_args=())
def diversity(
    codes: Tensor,
    codebooks: Tensor,
    sizes: list[int],
    groups: Tensor,
    seed: Tensor,
    with_gradient: bool,
) -> tuple[Tensor, Tensor]:
    """codes [B, L] int64, codebooks [ΣK, D] float32 or float64, groups [ΣK] int64, all contiguous,
    seed [] int64
    -> losses [L]; for the backward pass the gradient of their sum [ΣK, D] ([0, D] without
       `with_gradient`)
    """
    checks.tensor("codebooks", codebooks, checks.LOSSES, (None, None), codebooks.device)
    checks.levels(sizes, len(codebooks))
    checks.tensor("codes", codes, checks.INT64, (None, len(sizes)), codebooks.device)
    checks.tensor("groups", groups, checks.INT64, (len(codebooks),), codebooks.device)
    checks.tensor("seed", seed, checks.INT64, (), codebooks.device)
    return kernels.implementation(reference.diversity, codebooks.device, codebooks.dtype)(
        codes, codebooks, sizes, groups, seed, with_gradient
    )


@diversity.register_fake
def _(
    codes: Tensor,
    codebooks: Tensor,
    sizes: list[int],
    groups: Tensor,
    seed: Tensor,
    with_gradient: bool,
) -> tuple[Tensor, Tensor]:
    rows = codebooks.shape[0] if with_gradient else 0
    return codebooks.new_empty(len(sizes)), codebooks.new_empty((rows, codebooks.shape[1]))


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.sizes = inputs[2]
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[1])


def _backward(
    ctx: Any, grad: Tensor | None, _: None
) -> tuple[None, Tensor | None, None, None, None, None]:
    first_derivative_only("diversity_loss")
    if grad is None:  # the losses are not used
        return None, None, None, None, None, None
    (gradient,) = ctx.saved_tensors
    if len(set(ctx.sizes)) == 1:  # one launch for all levels
        scaled = gradient.view(len(ctx.sizes), -1, gradient.shape[1]) * grad[:, None, None]
        return None, scaled.view_as(gradient), None, None, None, None
    parts = zip(gradient.split(ctx.sizes), grad.unbind())
    return None, torch.cat([part * factor for part, factor in parts]), None, None, None, None


diversity.register_autograd(_backward, setup_context=_save)
