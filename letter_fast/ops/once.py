"""Backward passes can't be differentiated again."""

from __future__ import annotations

import torch


def first_derivative_only(loss: str) -> None:
    """Refuses a backward pass that is itself recorded.

    Raises:
        RuntimeError: it runs with create_graph=True.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            f"{loss} has no second derivative: call backward without create_graph=True"
        )
