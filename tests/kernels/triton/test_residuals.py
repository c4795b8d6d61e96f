"""The residuals of rows: the reference is the chain of float32 differences itself."""

from __future__ import annotations

import pytest
import torch

from letter_fast.kernels import reference
from tests.support.triton_backend import DEVICE, backend


@pytest.mark.parametrize(("N", "D"), [(0, 3), (1, 1), (37, 5), (9, 130)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_residuals(N: int, D: int, dtype: torch.dtype) -> None:
    sizes = [3, 5, 2]
    x, books = torch.randn(D, N).to(dtype).T, torch.randn(sum(sizes), D)
    codes = torch.stack([torch.randint(size, (N,)) for size in sizes], dim=1)
    codes[N // 2 : N // 2 + 1] = -1
    expected = x.float()
    for code, book in zip(codes.T, books.split(sizes)):
        expected = expected - book[code]
    expected[codes[:, 0] < 0] = torch.nan
    found = backend.residuals(x.to(DEVICE), books.to(DEVICE), sizes, codes.to(DEVICE)).cpu()
    for each in (reference.residuals(x, books, sizes, codes), found):
        torch.testing.assert_close(each, expected, rtol=0, atol=0, equal_nan=True)
