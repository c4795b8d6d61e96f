"""The contrastive loss of the Triton backend against float64 autograd."""

from __future__ import annotations

import math

import pytest
import torch

from letter_fast.kernels import reference
from tests.support import oracle
from tests.support.triton_backend import backend, to_device


@pytest.mark.parametrize(("B", "M", "D"), [(1, 1, 1), (17, 17, 5), (20, 50, 33), (40, 40, 128)])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_contrastive(B: int, M: int, D: int, scale: float) -> None:
    q, h = scale * oracle.clustered(B, D, 5, seed=B), oracle.clustered(M, D, 5, seed=M + 1)
    loss, log_total, gradient = reference.contrastive(q.double(), h.double(), True)
    found = backend.contrastive(*to_device(q, h), True)
    gradient_h = reference.contrastive_gradient_h(q.double(), h.double(), log_total)
    found_h = backend.contrastive_gradient_h(*to_device(q, h, log_total))
    # Float32 logits err by at most δ, weights by 2δ of themselves (the CPU's test has it in full).
    delta = (D + 2) * 2.0**-24 * float(q.norm(dim=1).max() * h.norm(dim=1).max()) + 2e-6
    torch.testing.assert_close(found[0].cpu(), loss.float(), rtol=1e-6, atol=2 * delta)
    torch.testing.assert_close(found[1].cpu(), log_total, rtol=1e-6, atol=delta)
    torch.testing.assert_close(
        found[2].cpu().double(), gradient, rtol=0, atol=2 * delta * float(h.abs().max()) / B
    )
    torch.testing.assert_close(
        found_h.cpu().double(), gradient_h, rtol=0, atol=2 * delta * float(q.abs().max())
    )
    alone = backend.contrastive(*to_device(q, h), False)
    assert torch.equal(alone[0], found[0])
    assert alone[2].shape == (0, D)


def test_wide_rows_are_the_references() -> None:
    q, h = torch.randn(5, 200), torch.randn(6, 200)
    expected = reference.contrastive(q, h, True)
    for a, b in zip(backend.contrastive(*to_device(q, h), True), expected):
        torch.testing.assert_close(a.cpu(), b)
    torch.testing.assert_close(
        backend.contrastive_gradient_h(*to_device(q, h, expected[1])).cpu(),
        reference.contrastive_gradient_h(q, h, expected[1]),
    )


def test_logits_that_overflow_exp() -> None:
    q, h = torch.tensor([[1e4], [-1e4], [3.0]]), torch.tensor([[1.0], [-1.0], [2.0]])
    loss, log_total, gradient = backend.contrastive(*to_device(q, h), True)
    assert log_total[:2].tolist() == pytest.approx([2e4, 1e4])
    assert bool(gradient.isfinite().all())
    assert float(loss) == pytest.approx((1e4 + math.log(1 + math.exp(-3) + math.exp(-9))) / 3)
