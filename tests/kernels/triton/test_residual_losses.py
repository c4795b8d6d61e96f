"""The losses of all levels of the Triton backend are the reference's; sums in integers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from letter_fast.kernels import reference
from tests.support import oracle
from tests.support.triton_backend import DEVICE, backend, to_device


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
    torch.testing.assert_close(
        found[1].cpu().sum(dim=0), expected[1].sum(dim=0), rtol=1e-12, atol=0
    )
    errors, grad = expected[1][0, :-1], torch.randn(N, D)
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


@pytest.mark.parametrize("S", [0, 1, 150])
@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize("with_codebook", [True, False])
def test_terms(S: int, mean: bool, with_codebook: bool) -> None:
    parts = torch.rand(S, 4).double()
    parts[:, 3] = torch.randint(9, (S,))
    expected = reference.residual_terms(parts, 20, mean, 0.25, with_codebook, torch.zeros(1))
    found = backend.residual_terms(
        *to_device(parts), 20, mean, 0.25, with_codebook, *to_device(torch.zeros(1))
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-6, atol=0)


@pytest.mark.parametrize("mode", ["straight_through", "detach", "full", "aggregate"])
@pytest.mark.parametrize("given", [(3,), (0, 1), (0, 1, 2, 3), ()])
@pytest.mark.parametrize(("mean", "with_codebook"), [(True, True), (False, False)])
def test_weights(mode: str, given: tuple[int, ...], mean: bool, with_codebook: bool) -> None:
    """Powers of two, so that the order of sums doesn't matter."""
    slopes = [torch.tensor([1.0, 2.0, 4.0, 8.0]) * 2.0**place for place in range(3)]
    chosen = [slope if place in given else None for place, slope in enumerate(slopes)]
    chosen.append(torch.tensor(16.0) if 3 in given else None)
    scale = torch.tensor(0.25, dtype=torch.float64)
    options = (4, mean, 0.5, with_codebook)
    expected = reference.residual_weights(mode, chosen, scale, *options)
    there = [slope if slope is None else slope.to(DEVICE) for slope in chosen]
    found = backend.residual_weights(mode, there, scale.to(DEVICE), *options)
    assert torch.equal(found.cpu(), expected.double())


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e18])
def test_fixed_point_sums_fit_every_scale(scale: float) -> None:
    sizes = [2]
    x, books = scale * torch.randn(50, 3), torch.zeros(2, 3)
    codes = torch.arange(50)[:, None] % 2
    errors = reference.residual_losses(x, books, sizes, codes)[1][0, :-1]
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
