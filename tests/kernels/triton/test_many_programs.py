"""Kernels whose programs wait for one another, by several programs in random order."""

from __future__ import annotations

import math
import sys

import pytest
import torch

from letter_fast.kernels import reference
from tests.support import oracle
from tests.support.many_programs import many_programs
from tests.support.triton_backend import DEVICE, backend

host = sys.modules[f"{backend.__name__}.sinkhorn_codes"]
large = sys.modules[f"{backend.__name__}.sinkhorn_large"]
pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.skipif(DEVICE.type == "cuda", reason="a GPU has programs of its own"),
]

SWEEPS = 3
# After the distances, and twice a sweep.
WAITS = 1 + 2 * SWEEPS


def mapped(epsilon: float, seed: int, forgotten: int | None = None) -> bool:
    """Whether 3 programs give the reference's codes of 2 groups in 6 blocks."""
    x, book = oracle.clustered(81, 3, 4, seed=1), oracle.clustered(20, 3, 4, seed=2)
    x[7, 1], book[3, 0] = math.inf, math.nan
    starts = torch.tensor([0, 47, 81])
    with many_programs(large, host, 3, seed, forgotten) as grid:
        codes = backend.sinkhorn_codes(x, book, starts, epsilon, SWEEPS)
    assert grid.waits == WAITS
    return torch.equal(codes, reference.sinkhorn_codes(x, book, starts, epsilon, SWEEPS))


@pytest.mark.parametrize("epsilon", [0.001, 0.01])
def test_sinkhorn_is_right_in_any_order_of_its_programs(epsilon: float) -> None:
    assert all(mapped(epsilon, seed) for seed in range(5))


@pytest.mark.parametrize("forgotten", range(1, WAITS))
def test_sinkhorn_is_wrong_without_a_wait(forgotten: int) -> None:
    assert not all(mapped(0.01, seed, forgotten) for seed in range(20))


def test_the_wait_itself_ends() -> None:
    """One program, as the interpreter has it, counts its own rounds."""
    arrived = torch.zeros(1, dtype=torch.int32)
    for round in (1, 2, 3):
        large.wait_for_all[(1,)](arrived, round)
    assert arrived.item() == 3
