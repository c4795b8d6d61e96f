"""The Triton loss kernels against the reference: on a CUDA device if there is one, else in the
interpreter, with tiles of 16 × 16, so that small cases cross tile borders."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from letter_fast.kernels import reference
from tests.support import oracle
from tests.support.triton_backend import DEVICE, backend


def to_device(*tensors: Tensor) -> list[Tensor]:
    return [tensor.to(DEVICE) for tensor in tensors]


@pytest.mark.parametrize(("B", "M", "D"), [(1, 1, 1), (17, 17, 5), (20, 50, 33), (40, 40, 128)])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_contrastive(B: int, M: int, D: int, scale: float) -> None:
    q, h = scale * oracle.clustered(B, D, 5, seed=B), oracle.clustered(M, D, 5, seed=M + 1)
    loss, log_total, gradient = reference.contrastive(q.double(), h.double(), True)
    found = backend.contrastive(*to_device(q, h), True)
    gradient_h = reference.contrastive_gradient_h(q.double(), h.double(), log_total)
    found_h = backend.contrastive_gradient_h(*to_device(q, h, log_total))
    # Float32 logits err by at most δ, weights by 2δ of themselves (test_losses.py has it in full).
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


@pytest.mark.parametrize("sizes", [[9, 9], [5, 1, 12]])
@pytest.mark.parametrize("rows", [1, 60])
def test_diversity(sizes: list[int], rows: int) -> None:
    codes = torch.stack([torch.randint(K, (rows,)) for K in sizes], dim=1)
    codes[2:4] = -1
    books = torch.cat([oracle.clustered(K, 4, 3, seed=K) for K in sizes])
    groups, seed = torch.randint(3, (sum(sizes),)), torch.tensor(11)
    expected = reference.diversity(codes, books, sizes, groups, seed, True)
    found = backend.diversity(*to_device(codes, books), sizes, *to_device(groups, seed), True)
    for a, b in zip(found, expected):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-5, atol=1e-6)
    alone = backend.diversity(*to_device(codes, books), sizes, *to_device(groups, seed), False)
    assert torch.equal(alone[0], found[0])
    assert alone[1].shape == (0, 4)


@pytest.mark.parametrize("N", [0, 1, 70])
@pytest.mark.parametrize("D", [1, 20, 130])
def test_residual_losses(N: int, D: int) -> None:
    sizes = [5, 9, 3]
    x, codes = oracle.clustered(N, D, 4, seed=D), torch.randint(3, (N, 3))
    codes[3:5], x[3:5] = -1, math.nan
    books = torch.cat([oracle.clustered(K, D, 4, seed=K) for K in sizes])
    expected = reference.residual_losses(x, books, sizes, codes)
    found = backend.residual_losses(*to_device(x, books), sizes, codes.to(DEVICE))
    assert torch.equal(found[0].cpu(), expected[0])
    torch.testing.assert_close(found[1].cpu(), expected[1], rtol=1e-12, atol=0)
    assert int(found[2]) == int(expected[2])

    errors, grad = expected[1], torch.randn(N, D)
    for weights in (torch.randn(3, 3).double(), torch.zeros(3, 3).double()):
        want = reference.residual_losses_backward(x, books, sizes, codes, errors, grad, weights)
        inputs = to_device(codes, errors, grad, weights)
        got = backend.residual_losses_backward(*to_device(x, books), sizes, *inputs)
        for a, b in zip(got, want):
            torch.testing.assert_close(a.cpu(), b, rtol=1e-6, atol=1e-6)
        again = backend.residual_losses_backward(*to_device(x, books), sizes, *inputs)
        assert all(torch.equal(a, b) for a, b in zip(got, again))
        for unused in (3, 4, 13):
            assert bool((got[1][unused] == 0).all())


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e18])
def test_fixed_point_sums_fit_every_scale(scale: float) -> None:
    sizes = [2]
    x, books = scale * torch.randn(50, 3), torch.zeros(2, 3)
    codes = torch.arange(50)[:, None] % 2
    _, errors, _ = reference.residual_losses(x, books, sizes, codes)
    weights = torch.tensor([[0.0], [1.0 / scale], [0.0]], dtype=torch.float64)
    inputs = (x, books, sizes, codes, errors, torch.zeros_like(x), weights)
    want = reference.residual_losses_backward(*inputs)[1]
    got = backend.residual_losses_backward(
        *(value.to(DEVICE) if isinstance(value, Tensor) else value for value in inputs)
    )[1]
    torch.testing.assert_close(got.cpu(), want, rtol=1e-6, atol=1e-6)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy, which interprets, says so
def test_a_slope_that_is_not_finite_shows() -> None:
    x, books, codes = torch.ones(4, 2), torch.zeros(3, 2), torch.tensor([[0], [0], [1], [1]])
    weights = torch.tensor([[0.0], [math.inf], [0.0]], dtype=torch.float64)
    errors = torch.tensor([8.0], dtype=torch.float64)
    got = backend.residual_losses_backward(
        *to_device(x, books), [3], *to_device(codes, errors, torch.zeros(4, 2), weights)
    )
    assert bool(got[1][:2].isnan().all())
