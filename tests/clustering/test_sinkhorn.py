"""The public function: LETTER's codes, group by group, and clear words for what it can't map."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from letter_fast.clustering import sinkhorn_codes
from tests.support import oracle


@pytest.mark.parametrize("epsilon", [0.003, 0.05, 1.0])
@pytest.mark.parametrize("rows", [1, 5, 100])
def test_equals_the_probability_space_form(rows: int, epsilon: float) -> None:
    x, book = oracle.clustered(rows, 6, 4, seed=1), oracle.clustered(16, 6, 4, seed=2)
    plan = oracle.public_sinkhorn(x, book, epsilon, 50)
    assert bool(plan.isfinite().all())
    assert torch.equal(sinkhorn_codes(x, book, epsilon, 50), plan.argmax(dim=1))


def test_spreads_rows_more_than_nearest() -> None:
    x, book = oracle.clustered(64, 4, 2, seed=3), oracle.clustered(16, 4, 2, seed=4)
    spread = len(set(sinkhorn_codes(x, book).tolist()))
    assert spread > len(set(oracle.nearest(x, book)))


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e15])
def test_finite_input_always_gives_codes(scale: float) -> None:
    x, book = oracle.clustered(9, 3, 2, seed=5) * scale, oracle.clustered(4, 3, 2, seed=6) * scale
    codes = sinkhorn_codes(x, book, 1e-6, 50)
    assert codes.shape == (9,)
    assert int(codes.min()) >= 0
    assert int(codes.max()) < 4
    assert sinkhorn_codes(x[:0], book).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_groups_are_mapped_by_themselves(dtype: torch.dtype) -> None:
    x, book = oracle.clustered(30, 4, 3, seed=7).double(), oracle.clustered(9, 4, 3, seed=8)
    codes = sinkhorn_codes(x, book, starts=torch.tensor([0, 12, 12, 30], dtype=dtype))
    assert torch.equal(codes, torch.cat([sinkhorn_codes(part, book) for part in x.split([12, 18])]))


@pytest.mark.parametrize(
    ("starts", "message"),
    [
        (torch.tensor([0, 1]), r"ascend from 0 to the 2 rows of x, got \[0, 1\]"),
        (torch.tensor([1, 2]), r"got \[1, 2\]"),
        (torch.tensor([0, 2, 1, 2]), r"got \[0, 2, 1, 2\]"),
        (torch.arange(20), r"got \[0, 1, 2, 3, '…', 19\]"),
        (torch.tensor([], dtype=torch.int64), r"got \[\]"),
        (torch.tensor([0.0, 2.0]), "must be integers, got torch.float32"),
        (torch.tensor([[0, 2]]), r"vector of integers, got shape \[1, 2\]"),
        (torch.tensor([False, True]), "must be integers, got torch.bool"),
    ],
)
def test_bad_starts_are_refused(starts: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sinkhorn_codes(torch.zeros(2, 2), torch.zeros(2, 2), starts=starts)


def test_bad_arguments_are_refused() -> None:
    x = torch.zeros(2, 2)
    for epsilon in (0.0, -1.0, torch.nan, torch.inf, 1e-310):
        with pytest.raises(ValueError, match="epsilon must be finite"):
            sinkhorn_codes(x, x, epsilon=epsilon)
    with pytest.raises(ValueError, match="sweeps must be at least 1"):
        sinkhorn_codes(x, x, sweeps=0)
    with pytest.raises(ValueError, match=r"1 of 2 rows of x hold NaN or Inf.*row 1"):
        sinkhorn_codes(torch.tensor([[0.0, 0.0], [torch.nan, 0.0]]), x)
    with pytest.raises(ValueError, match="last dimension of 3"):
        sinkhorn_codes(x, torch.zeros(2, 3))
    with pytest.raises(ValueError, match="codebook is on meta, x on cpu"):
        sinkhorn_codes(x, x.to("meta"))
