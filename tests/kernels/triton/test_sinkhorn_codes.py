"""The Sinkhorn mapping of the Triton backend, on a GPU or interpreted, is the reference's."""

from __future__ import annotations

import math
import sys
from unittest import mock

import pytest
import torch
from torch import Tensor

from letter_fast.kernels import reference
from tests.support import oracle
from tests.support.triton_backend import DEVICE, backend

# Scales are tried out where they overflow, and numpy, which interprets, says so.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.mark.parametrize("epsilon", [0.001, 0.003])
def test_sinkhorn_of_groups_of_any_size(epsilon: float) -> None:
    # A program each for up to 4 and 16 rows; blocks of 16 for more; nothing for an empty group.
    sizes = [1, 3, 0, 4, 9, 17, 40]
    starts = torch.tensor([0, *sizes]).cumsum(0)
    x, book = oracle.clustered(sum(sizes), 3, 5, seed=18), oracle.clustered(70, 3, 5, seed=19)
    x[[2, 25], 1] = torch.tensor([math.nan, math.inf])
    book[11, 0], book[69] = math.nan, book[2]
    check_sinkhorn(x, book, starts, epsilon)


@pytest.mark.parametrize("epsilon", [1e-6, 1.0])
def test_sinkhorn_without_small_groups(epsilon: float) -> None:
    x, book = oracle.clustered(45, 2, 3, seed=20), oracle.clustered(6, 2, 3, seed=21)
    x[33:35], book[2] = math.nan, 40.0  # a group without a row; a codeword that nobody is near to
    small = {"SINKHORN_ELEMENTS": 1, "PLAN_BYTES": 8 * 6 * 20}
    with mock.patch.multiple(sys.modules[f"{backend.__name__}.sinkhorn_codes"], **small):
        check_sinkhorn(x, book, torch.tensor([0, 1, 20, 33, 35, 45]), epsilon)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_sinkhorn_at_any_scale(scale: float) -> None:
    x, book = (
        oracle.clustered(20, 3, 2, seed=22) * scale,
        oracle.clustered(5, 3, 2, seed=23) * scale,
    )
    check_sinkhorn(x.T.contiguous().T, book, torch.tensor([0, 2, 20]), 0.003)
    half = x.nan_to_num(posinf=1.0).clamp(-1, 1).half()
    check_sinkhorn(half, torch.full((2, 3), math.nan), torch.tensor([0, 20]), 0.003)
    check_sinkhorn(half[:0], book, torch.tensor([0]), 0.003)


def check_sinkhorn(x: Tensor, book: Tensor, starts: Tensor, epsilon: float) -> None:
    expected = reference.sinkhorn_codes(x, book, starts, epsilon, 4)
    found = backend.sinkhorn_codes(x.to(DEVICE), book.to(DEVICE), starts, epsilon, 4)
    assert torch.equal(found.cpu(), expected)
