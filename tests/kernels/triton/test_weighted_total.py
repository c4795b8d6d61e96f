"""Sums and codes that the Triton backend makes in one launch are the reference's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from letter_fast.kernels import reference
from tests.support.triton_backend import DEVICE, backend, to_device


@pytest.mark.parametrize("w_rq", [1.0, 0.5])
@pytest.mark.parametrize("L", [1, 3, 4])
@pytest.mark.parametrize("mean", [True, False])
def test_total(w_rq: float, L: int, mean: bool) -> None:
    terms, weights = [*torch.rand(3).unbind(), torch.rand(L)], [w_rq, 0.1, 0.01]
    how: tuple[Any, ...] = (96, weights, mean)
    expected = reference.weighted_total(*terms, *how)
    found = backend.weighted_total(*to_device(*terms), *how)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-6, atol=0)


@pytest.mark.parametrize("given", [(0,), (1,), (0, 1, 2), ()])
@pytest.mark.parametrize("L", [1, 3])
@pytest.mark.parametrize("mean", [True, False])
def test_slopes(given: tuple[int, ...], L: int, mean: bool) -> None:
    slopes = [torch.rand(()) if place in given else None for place in range(3)]
    options = (96, [0.5, 0.1, 0.01], mean, L)
    expected = reference.weighted_total_backward(slopes, torch.zeros(()), *options)
    there = [slope if slope is None else slope.to(DEVICE) for slope in slopes]
    found = backend.weighted_total_backward(there, *to_device(torch.zeros(())), *options)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one.cpu(), other, rtol=1e-6, atol=0)


@pytest.mark.parametrize("N", [0, 1, 300])
def test_a_row_marked_at_one_level_is_marked_at_all(N: int) -> None:
    parts: list[Tensor] = [torch.randint(-1, 9, (N, width)) for width in (3, 1, 2)]
    found = backend.joined_codes(to_device(*parts))
    assert torch.equal(found.cpu(), reference.joined_codes(parts))
