"""The MLP of both encoder and decoder, and how it gives a row the same bits every time."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)

# Rows that go through the encoder together. A matrix product picks its kernel, and with it the
# order of its sums, by its shape; so all products have one shape, whatever the batch.
_ROWS = {"cpu": 1024, "cuda": 16_384}
# MKL treats rows by their place where the width is not a multiple of 4; 16 leaves room for others.
_LANES = 16


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
