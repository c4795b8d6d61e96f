"""letter_fast::mlp: encoder or decoder in a few launches, where a backend has kernels for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from letter_fast import kernels
from letter_fast.kernels import reference

from . import checks
from .once import first_derivative_only


@torch.library.custom_op("letter_fast::mlp", mutates_args=())
def mlp(x: Tensor, weights: list[Tensor], biases: list[Tensor]) -> list[Tensor]:
    """x [N, w_0], weights [w_i, w_{i−1}], biases [w_i] float32 or float64, all contiguous
    -> outputs [N, w_i] of every layer, the last one without ReLU
    """
    _check(x, weights, biases)
    return kernels.implementation(reference.mlp, x.device, x.dtype)(x, weights, biases)


@torch.library.custom_op("letter_fast::mlp_backward", mutates_args=())
def mlp_backward(
    grad: Tensor, x: Tensor, outputs: list[Tensor], weights: list[Tensor], with_x: bool
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """grad [N, w_n] contiguous, outputs as `mlp` gave them
    -> gradients of x ([0, w_0] without `with_x`), of weights and of biases
    """
    checks.tensor("grad", grad, (x.dtype,), outputs[-1].shape, x.device)
    return kernels.implementation(reference.mlp_backward, x.device, x.dtype)(
        grad, x, outputs, weights, with_x
    )


def mlp_has_kernels(device: torch.device) -> bool:
    """Whether `mlp` is more than PyTorch's own operations there."""
    return kernels.implementation(reference.mlp, device) is not reference.mlp


def _check(x: Tensor, weights: list[Tensor], biases: list[Tensor]) -> None:
    checks.tensor("x", x, checks.LOSSES, (None, None), x.device)
    width = x.shape[1]
    for weight, bias in zip(weights, biases):
        checks.tensor("weight", weight, (x.dtype,), (None, width), x.device)
        width = len(weight)
        checks.tensor("bias", bias, (x.dtype,), (width,), x.device)


@mlp.register_fake
def _(x: Tensor, weights: list[Tensor], biases: list[Tensor]) -> list[Tensor]:
    return [x.new_empty((x.shape[0], weight.shape[0])) for weight in weights]


@mlp_backward.register_fake
def _(
    grad: Tensor, x: Tensor, outputs: list[Tensor], weights: list[Tensor], with_x: bool
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    grad_x = torch.empty_like(x if with_x else x[:0])
    biases = [weight.new_empty(weight.shape[0]) for weight in weights]
    return grad_x, [torch.empty_like(weight) for weight in weights], biases


def _save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, weights, _ = inputs
    ctx.mark_non_differentiable(*output[:-1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, *output, *weights)


def _backward(
    ctx: Any, grads: list[Tensor | None]
) -> tuple[Tensor | None, list[Tensor | None], list[Tensor | None]]:
    first_derivative_only("mlp")
    (x, *saved), layers = ctx.saved_tensors, len(grads)
    grad = grads[-1]
    if grad is None:  # the output is not used
        return None, [None] * layers, [None] * layers
    outputs, weights = saved[:layers], saved[layers:]
    with_x = ctx.needs_input_grad[0]
    grad_x, grad_weights, grad_biases = mlp_backward(grad.contiguous(), x, outputs, weights, with_x)
    return (grad_x if with_x else None), grad_weights, grad_biases


mlp.register_autograd(_backward, setup_context=_save)
