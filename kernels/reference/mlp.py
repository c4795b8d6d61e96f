"""Linear layers with ReLU between them, and all of their gradients.

a_0 = x,   a_i = max(a_{i−1} W_iᵀ + b_i, 0),   without the maximum after the last

slope_n = ∂a_n,   slope_{i−1} = slope_i W_i where a_{i−1} > 0  (everywhere for x)
∂W_i = slope_iᵀ a_{i−1}        ∂b_i = Σ over rows of slope_i
"""

from __future__ import annotations

import torch
from torch import Tensor


def mlp(x: Tensor, weights: list[Tensor], biases: list[Tensor]) -> list[Tensor]:
    """a_1 … a_n.

    x [N, w_0], weights [w_i, w_{i−1}], biases [w_i] -> outputs [N, w_i] of every layer
    """
    outputs = []
    for layer, (weight, bias) in enumerate(zip(weights, biases)):
        x = torch.addmm(bias, x, weight.T)
        if layer < len(weights) - 1:
            x = x.relu()
        outputs.append(x)
    return outputs


def mlp_backward(
    grad: Tensor, x: Tensor, outputs: list[Tensor], weights: list[Tensor], with_x: bool
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """∂x, ∂W and ∂b from ∂a_n.

    grad [N, w_n], outputs as `mlp` gave them -> gradients of x ([0, w_0] without `with_x`), of
    weights and of biases
    """
    inputs, slope = [x, *outputs[:-1]], grad
    grad_x = x.new_empty((0, x.shape[1]))
    grad_weights: list[Tensor] = []
    grad_biases: list[Tensor] = []
    for layer in reversed(range(len(weights))):
        grad_weights.insert(0, slope.T @ inputs[layer])
        grad_biases.insert(0, slope.sum(dim=0))
        if layer > 0:
            slope = torch.where(inputs[layer] > 0, slope @ weights[layer], 0.0)
        elif with_x:
            grad_x = slope @ weights[layer]
    return grad_x, grad_weights, grad_biases
