"""Sums of clusters on a GPU, or interpreted: the bits of the reference."""

from __future__ import annotations

import math
import sys
from unittest import mock

import pytest
import torch
from torch import Tensor

from tests.support import oracle
from tests.support.triton_backend import DEVICE, backend

adding = sys.modules[f"{backend.__name__}.cluster_sums"]

# Scales are tried out where they overflow, and numpy, which interprets, says so.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def check_sums(x: Tensor, codes: Tensor, count: int, exponent: int) -> Tensor:
    counted = codes >= 0
    fixed = (x[counted].double() * 2.0**exponent).round().long()
    expected = torch.zeros(count, x.shape[1], dtype=torch.int64)
    expected.index_add_(0, codes[counted], fixed)
    sums, counts = backend.cluster_sums(x.to(DEVICE), codes.to(DEVICE), count, exponent)
    assert torch.equal(sums.cpu(), expected)
    assert counts.tolist() == torch.bincount(codes[counted], minlength=count).tolist()
    return sums.cpu()


@pytest.mark.parametrize(
    ("rows", "width", "count"),
    [(1, 1, 1), (3, 5, 4), (16, 15, 1), (17, 33, 3), (300, 17, 7), (140, 32, 2), (5, 3, 40_000)],
)
def test_code_sums(rows: int, width: int, count: int) -> None:
    x = oracle.clustered(rows, width, 3, seed=width)
    codes = torch.arange(rows) * 7 % (count + 1) - 1
    check_sums(x, codes, count, 30)
    check_sums(x, codes.sort().values, count, 1)


def test_code_sums_reads_any_strides_and_half_precision() -> None:
    x = oracle.clustered(40, 12, 5, seed=1)
    codes = torch.arange(40) % 3
    expected = check_sums(x, codes, 3, 20)
    strided = torch.zeros(24, 40).T
    strided[:, ::2] = x
    for view in (strided[:, ::2], x.repeat(1, 2)[:, :12]):
        assert torch.equal(check_sums(view, codes, 3, 20), expected)
    for dtype in (torch.float16, torch.bfloat16):
        check_sums(x.to(dtype), codes, 3, 20)


def test_code_sums_rounds_half_to_even() -> None:
    x = torch.tensor([[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999997, 8388607.5]])
    sums = check_sums(x, torch.zeros(1, dtype=torch.int64), 1, 0)
    assert sums.tolist() == [[-2, -2, 0, 0, 2, 2, 0, 8388608]]
    check_sums(x * 2.0**-60, torch.zeros(1, dtype=torch.int64), 1, 60)


@pytest.mark.parametrize(
    ("scale", "exponent"), [(1e-44, 200), (1e-38, 180), (1.0, 60), (1e15, 10), (1e30, -45)]
)
def test_code_sums_of_any_scale(scale: float, exponent: int) -> None:
    x = scale * torch.linspace(-1, 1, 21).reshape(7, 3)
    sums = check_sums(x, torch.arange(7) % 2, 2, exponent)
    assert sums.abs().max() > 2**40


def test_code_sums_skips_marked_rows_whatever_they_hold() -> None:
    x = oracle.clustered(9, 4, 3, seed=2)
    codes = torch.tensor([0, -1, 2, 2, -1, 0, 0, 2, -1])
    x[codes < 0] = math.nan
    check_sums(x, codes, 3, 30)
    check_sums(x, torch.full((9,), -1), 3, 30)
    check_sums(x[:0], codes[:0], 3, 30)


def test_code_sums_are_the_same_in_any_order_and_in_parts() -> None:
    x = oracle.clustered(50, 6, 5, seed=3) * 10.0 ** torch.linspace(-6, 6, 50)[:, None]
    codes = torch.arange(50) % 4
    expected = check_sums(x, codes, 4, 30)
    order = torch.randperm(50)
    assert torch.equal(check_sums(x[order], codes[order], 4, 30), expected)
    with mock.patch.object(adding, "SLAB_ROWS", 7):
        assert torch.equal(check_sums(x, codes, 4, 30), expected)
