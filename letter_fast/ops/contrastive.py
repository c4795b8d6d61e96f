"""letter_fast::contrastive: mean in-batch InfoNCE, with no [B, M] matrix in either direction.

The gradient of q falls out of the forward pass and waits for the backward one; that of h, where it
is wanted, takes a second pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from letter_fast import kernels
from letter_fast.kernels import reference

from . import checks
from .once import first_derivative_only


@torch.library.custom_op("letter_fast::contrastive", mutates_args=())
def contrastive(q: Tensor, h: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor, Tensor]:
    """q [B, D], h [M ≥ B, D] float32 or float64, contiguous, row i of h the own one of row i of q
    -> loss []; for the backward pass: log_total [B] float64, gradient of q [B, D] ([0, D] without
       `with_gradient`, which a q that needs no gradient can do without)
    """
    _check(q, h)
    return kernels.implementation(reference.contrastive, q.device, q.dtype)(q, h, with_gradient)


@torch.library.custom_op("letter_fast::contrastive_gradient_h", mutates_args=())
def contrastive_gradient_h(q: Tensor, h: Tensor, log_total: Tensor) -> Tensor:
    """q [B, D], h [M, D], log_total [B] -> gradient of h [M, D]"""
    _check(q, h)
    checks.tensor("log_total", log_total, checks.FLOAT64, (len(q),), q.device)
    return kernels.implementation(reference.contrastive_gradient_h, q.device, q.dtype)(
        q, h, log_total
    )


def _check(q: Tensor, h: Tensor) -> None:
    checks.tensor("q", q, checks.LOSSES, (None, None), q.device)
    checks.tensor("h", h, (q.dtype,), (None, q.shape[1]), q.device)
    if not 1 <= len(q) <= len(h):
        raise ValueError(f"q must have 1 to {len(h)} rows, as h has, got {len(q)}")


@contrastive.register_fake
def _(q: Tensor, h: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor, Tensor]:
    gradient = q.new_empty((q.shape[0] if with_gradient else 0, q.shape[1]))
    return q.new_empty(()), q.new_empty(q.shape[:1], dtype=torch.float64), gradient


@contrastive_gradient_h.register_fake
def _(q: Tensor, h: Tensor, log_total: Tensor) -> Tensor:
    return torch.empty_like(h)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, bool], output: tuple[Tensor, ...]) -> None:
    q, h, _ = inputs
    _, log_total, gradient = output
    ctx.mark_non_differentiable(log_total, gradient)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(q, h, log_total, gradient)


def _backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, Tensor | None, None]:
    first_derivative_only("contrastive_loss")
    if grad is None:  # the loss is not used
        return None, None, None
    q, h, log_total, gradient = ctx.saved_tensors
    wanted_q, wanted_h, _ = ctx.needs_input_grad
    return (
        grad * gradient if wanted_q else None,
        grad * contrastive_gradient_h(q, h, log_total) if wanted_h else None,
        None,
    )


contrastive.register_autograd(_backward, setup_context=_save)
