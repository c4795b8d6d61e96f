"""Sums of clusters in integers: the same bits on every instruction set."""

from __future__ import annotations

import pytest
import torch

from letter_fast.kernels import cpp, reference
from tests.support import oracle


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("rows", "width", "count"), [(1, 1, 1), (300, 33, 7), (5000, 8, 300)])
def test_code_sums(rows: int, width: int, count: int, dtype: torch.dtype) -> None:
    x = oracle.clustered(rows, width, 4, seed=1).to(dtype)
    codes = torch.arange(rows) * 7 % (count + 1) - 1
    expected = reference.cluster_sums(x, codes, count, 30)
    for view in (x, x.T.contiguous().T):
        for ours, plain in zip(cpp.cluster_sums(view, codes, count, 30), expected):
            assert torch.equal(ours, plain)
