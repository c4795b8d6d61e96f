"""The MLP of both encoder and decoder, and how it gives a row the same bits every time."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from letter_fast import ops

M = TypeVar("M", bound=nn.Module)

# Rows that go through the encoder together. A matrix product picks its kernel, and with it the
# order of its sums, by its shape; so all products have one shape, whatever the batch.
_ROWS = {"cpu": 1024, "cuda": 16_384}
# MKL treats rows by their place where the width is not a multiple of 4; 16 leaves room for others.
_LANES = 16


def output_of(layers: nn.Sequential, x: Tensor) -> Tensor:
    """layers(x); on a GPU in few launches, where they are linear with ReLU between.

    Everything else (dropout, batch normalization, hooks, autocast, torch.compile, layers of other
    kinds) is left to the layers themselves. x [N, w_0] -> [N, w_n]
    """
    if not _fits(layers, x):
        output: Tensor = layers(x)
        return output
    linear = list(layers)[::2]
    weights, biases = [one.weight for one in linear], [one.bias for one in linear]
    outputs: list[Tensor] = ops.mlp(x.contiguous(), weights, biases)
    return outputs[-1]


def _fits(layers: nn.Sequential, x: Tensor) -> bool:
    """Whether `ops.mlp` computes the same, and in fewer launches."""
    if torch.compiler.is_compiling() or layers._compiled_call_impl is not None:
        return False
    if torch.is_autocast_enabled(x.device.type) or not ops.mlp_has_kernels(x.device):
        return False
    if x.dim() != 2 or len(x) == 0:
        return False
    kinds = [nn.ReLU if place % 2 else nn.Linear for place in range(len(layers))]
    return (
        kinds[-1:] == [nn.Linear]
        and _is_plain(layers, nn.Sequential)
        and all(map(_is_plain, layers, kinds))
    )


def _is_plain(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether the layer is this and nothing else, in float32."""
    hooks = (
        layer._forward_hooks
        or layer._forward_pre_hooks
        or layer._backward_hooks
        or layer._backward_pre_hooks
    )
    return (
        type(layer) is kind
        and not hooks
        and not (kind is nn.Linear and layer.bias is None)
        and all(p.dtype == torch.float32 and p.is_contiguous() for p in layer.parameters())
    )


def mlp(widths: Sequence[int], dropout: float = 0.0, batch_norm: bool = False) -> nn.Sequential:
    """Linear layers widths[0] → … → widths[−1] with ReLU between them, none after the last.

    Weights are Xavier-normal and biases zero, as in the public code.
    """
    layers: list[nn.Module] = []
    for index, (wide, narrow) in enumerate(pairwise(widths)):
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
        linear = nn.Linear(wide, narrow)
        nn.init.xavier_normal_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers.append(linear)
        if index < len(widths) - 2:
            if batch_norm:
                layers.append(nn.BatchNorm1d(narrow))
            layers.append(nn.ReLU(inplace=True))  # nothing else needs its input
    return nn.Sequential(*layers)


def evaluated(module: M) -> M:
    """`module` in evaluation mode, whatever its own: a copy that shares its parameters and buffers.

    The module's own mode stays as it is, for threads that use it meanwhile.
    """
    twin = copy.copy(module)
    twin.training = False
    twin._modules = {
        name: None if child is None else evaluated(child) for name, child in module._modules.items()
    }
    return twin


def encode_rows(encoder: nn.Sequential, s: Tensor) -> Tensor:
    """The outputs of an `mlp` in evaluation mode; a row's depends on no other row, nor on N.

    The bits may differ between kinds of processors, and of GPUs, as those of their products do.
    s [N, S] -> [N, D]
    """
    encoder = evaluated(encoder)
    width = s.shape[1]
    block = s.new_zeros(_ROWS.get(s.device.type, 1024), width + -width % _LANES)
    encoded = []
    for part in s.split(len(block)):
        block[: len(part), :width] = part  # rows below are an earlier part's; outputs are dropped
        encoded.append(_forward(encoder, block)[: len(part)])
    return torch.cat(encoded)


def _forward(encoder: nn.Sequential, x: Tensor) -> Tensor:
    for layer in encoder:
        if isinstance(layer, nn.Linear):
            spare = -layer.in_features % _LANES
            weight = F.pad(layer.weight, (0, spare)) if spare else layer.weight
            x = F.pad(x, (0, weight.shape[1] - x.shape[1])) if x.shape[1] < weight.shape[1] else x
            x = F.linear(x, weight, layer.bias)
        else:
            x = layer(x)
    return x
