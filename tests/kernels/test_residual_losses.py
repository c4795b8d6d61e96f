"""The losses of all levels, by every CPU backend, against float64 autograd; bits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from letter_fast import kernels
from letter_fast.kernels import cpp
from tests.support import oracle
from tests.support.cpu_backends import same_bits

# Residual losses.


def residual_case(N: int, D: int) -> tuple[Tensor, Tensor, list[int], Tensor]:
    sizes = [5, 9, 3]
    x = oracle.clustered(N, D, 4, seed=N + D)
    books = torch.cat([oracle.clustered(K, D, 4, seed=K) for K in sizes])
    codes = torch.stack([torch.randint(K - 1, (N,)) for K in sizes], dim=1)  # the last is unused
    return x, books, sizes, codes


@pytest.mark.parametrize("N", [0, 1, 40, 600])
@pytest.mark.parametrize("D", [1, 6, 16, 32, 37])
@pytest.mark.parametrize("later", [False, True])
def test_residual_losses(backend: kernels.Backend, N: int, D: int, later: bool) -> None:
    x, books, sizes, codes = residual_case(N, D)
    codes[3:5] = -1
    x[3:5] = math.nan
    valid = codes[:, 0] >= 0
    residual, total, residuals = x[valid], torch.zeros(int(valid.sum()), D), []
    for level, table in enumerate(books.split(sizes)):
        residual = residual - table[codes[valid, level]]
        total = total + table[codes[valid, level]]
        residuals.append(residual.double())

    quantized, parts = backend.residual_losses(x, books, sizes, codes)
    *errors, counted = parts.sum(dim=0)
    errors = torch.stack(errors)
    assert int(counted) == int(valid.sum())
    assert torch.equal(quantized[valid], total)
    assert bool((quantized[~valid] == 0).all())
    expected = torch.stack([r.square().sum() for r in residuals])
    torch.testing.assert_close(errors, expected, rtol=1e-12, atol=0)

    grad, weights = torch.randn(N, D), torch.randn(3, 3, dtype=torch.float64)
    weights[2] *= later
    grad_x, grad_books = backend.residual_losses_backward(
        x, books, sizes, codes, errors, grad, weights
    )
    assert bool((grad_x[~valid] == 0).all())
    expected_x, starts = grad[valid].double(), [0, 5, 14]
    expected_books = torch.zeros_like(books, dtype=torch.float64)
    for level, start in enumerate(starts):
        expected_x = expected_x + weights[0, level] * residuals[level]
        moved = weights[1, level] * residuals[level]
        for after in range(level + 1, 3):
            moved = moved + weights[2, after] * residuals[after]
        expected_books.index_add_(0, start + codes[valid, level], -moved)
    torch.testing.assert_close(grad_x[valid], expected_x.float(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(grad_books, expected_books.float(), rtol=1e-6, atol=1e-6)
    for last in (4, 13, 16):
        assert bool((grad_books[last] == 0).all())


def test_residual_losses_bits() -> None:
    x, books, sizes, codes = residual_case(900, 50)
    grad, weights = torch.randn(900, 50), torch.randn(3, 3, dtype=torch.float64)

    def call() -> tuple[Tensor, ...]:
        found = cpp.residual_losses(x, books, sizes, codes)
        errors = found[1][0, :-1]
        back = cpp.residual_losses_backward(x, books, sizes, codes, errors, grad, weights)
        return *found, *back

    same_bits(call)
