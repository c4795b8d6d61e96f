"""In-batch InfoNCE against its dense float64 formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from letter_fast.losses import contrastive, contrastive_loss


def literal(q: Tensor, h: Tensor) -> Tensor:
    logits = q @ h.T
    return -(logits.log_softmax(dim=1).diagonal()).mean()


@pytest.mark.parametrize("rows", [1, 2, 23])
@pytest.mark.parametrize("block", [5, 4096])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_values_and_gradients(
    rows: int, block: int, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contrastive, "_BLOCK", block)
    q = (torch.randn(rows, 6, dtype=torch.float64) * scale).requires_grad_()
    h = (torch.randn(rows, 6, dtype=torch.float64) * scale).requires_grad_()
    ours, expected = contrastive_loss(q, h), literal(q, h)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)
    for a, b in zip(torch.autograd.grad(ours, [q, h]), torch.autograd.grad(expected, [q, h])):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="share a shape"):
        contrastive_loss(torch.randn(3, 2), torch.randn(4, 2))
    with pytest.raises(ValueError, match="at least one row"):
        contrastive_loss(torch.empty(0, 2), torch.empty(0, 2))
