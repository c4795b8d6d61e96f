"""The MLP that both encoder and decoder are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn


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
