"""The contrastive loss of every CPU backend against float64 autograd of its formula; bits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from letter_fast import kernels
from letter_fast.kernels import cpp
from tests.support import oracle
from tests.support.cpu_backends import same_bits

UNIT = 2.0**-24


# Contrastive.


def contrastive_case(B: int, M: int, D: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    q = scale * oracle.clustered(B, D, 5, seed=B + D)
    return q, oracle.clustered(M, D, 5, seed=M + 1)


def check_contrastive(backend: kernels.Backend, q: Tensor, h: Tensor) -> None:
    """Float32 logits err by δ ≤ (D + 2)·u·|q|·|h|, and with them log-sums by δ, weights by 2δ of
    themselves; sums of weighted rows by 256 + M/256 roundings, 8 for exp and scales."""
    a, b = (t.double().requires_grad_() for t in (q, h))
    logits = a @ b.T
    exact = logits.logsumexp(1)
    loss = (exact - logits.diagonal()).mean()
    grad_q, grad_h = torch.autograd.grad(loss, [a, b])
    logits, exact, loss = logits.detach(), exact.detach(), loss.detach()

    found, log_total, gradient = backend.contrastive(q, h, True)
    gradient_h = backend.contrastive_gradient_h(q, h, log_total)
    B, D = q.shape
    delta = (D + 2) * UNIT * float(q.norm(dim=1).max() * h.norm(dim=1).max())
    sums = UNIT * (256 + max(q.shape[0], h.shape[0]) / 256 + 8)
    assert float((log_total - exact).abs().max()) <= delta + 16 * UNIT
    assert abs(float(found) - float(loss)) <= 2 * delta + 16 * UNIT * (1 + float(loss))
    limit = (2 * delta + sums) * float(h.abs().max())
    assert float((gradient - grad_q).abs().max()) <= limit / B
    weight = float((logits - exact[:, None]).exp().sum(0).max()) + 1
    assert (
        float((gradient_h - grad_h).abs().max())
        <= (2 * delta + sums) * weight * float(q.abs().max()) / B
    )
    alone = backend.contrastive(q, h, False)
    assert torch.equal(alone[0], found)
    assert alone[2].shape == (0, D)


@pytest.mark.parametrize("B", [1, 2, 5, 13, 48, 101])
@pytest.mark.parametrize("D", [1, 3, 16, 32, 33])
def test_contrastive_of_awkward_sizes(backend: kernels.Backend, B: int, D: int) -> None:
    check_contrastive(backend, *contrastive_case(B, B, D))


@pytest.mark.parametrize(
    ("B", "M", "D"), [(30, 300, 20), (7, 600, 100), (3, 70, 600), (260, 257, 8)]
)
def test_contrastive_over_tiles_and_negatives(
    backend: kernels.Backend, B: int, M: int, D: int
) -> None:
    check_contrastive(backend, *contrastive_case(B, max(B, M), D))


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e2, 1e4])
def test_contrastive_of_every_scale(backend: kernels.Backend, scale: float) -> None:
    q, h = contrastive_case(40, 40, 6, scale)
    check_contrastive(backend, q, h)
    q[:20] = q[20:]  # equal rows: every logit twice
    check_contrastive(backend, q, h)


def test_contrastive_has_no_hidden_overflow(backend: kernels.Backend) -> None:
    """Logits of ±10⁴ and more: the largest is subtracted before exp."""
    q = torch.tensor([[1e4], [-1e4], [3.0]])
    loss, log_total, gradient = backend.contrastive(q, torch.tensor([[1.0], [-1.0], [2.0]]), True)
    assert log_total[:2].tolist() == pytest.approx([2e4, 1e4])
    assert gradient.isfinite().all()
    assert float(loss) == pytest.approx((1e4 + 0 + math.log(1 + math.exp(-3) + math.exp(-9))) / 3)


def test_exp_is_within_three_roundings(backend: kernels.Backend) -> None:
    """With h = (0, …, 0, 1) the gradient is eˣ/(B + eˣ)/B, to exp's error and four roundings."""
    q = torch.linspace(-75, 0, 501)[:, None]
    h = torch.zeros(502, 1)
    h[-1] = 1.0
    _, _, gradient = backend.contrastive(q, h, True)
    exact = q.double().exp() / (501 + q.double().exp()) / 501
    assert float((gradient / exact - 1).abs().max()) < 6 * UNIT


def test_a_nan_shows(backend: kernels.Backend) -> None:
    q, h = contrastive_case(9, 9, 4)
    q[3, 1] = math.nan
    loss, log_total, gradient = backend.contrastive(q, h, True)
    assert loss.isnan()
    assert log_total.isnan().nonzero().flatten().tolist() == [3]
    assert gradient.isnan().any(dim=1).nonzero().flatten().tolist() == [3]
    h[5, 0] = math.nan
    assert backend.contrastive(q, h, True)[1].isnan().all()


def test_contrastive_bits() -> None:
    q, h = contrastive_case(150, 310, 20, 3.0)

    def call() -> tuple[Tensor, ...]:
        found = cpp.contrastive(q, h, True)
        return *found, cpp.contrastive_gradient_h(q, h, found[1])

    same_bits(call)
