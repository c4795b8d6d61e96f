"""The diversity loss of the Triton backend is the reference's."""

from __future__ import annotations

import pytest
import torch

from letter_fast.kernels import reference
from tests.support import oracle
from tests.support.triton_backend import backend, to_device


@pytest.mark.parametrize("sizes", [[9, 9], [5, 1, 40]])
@pytest.mark.parametrize(("rows", "width"), [(0, 4), (1, 4), (60, 70)])
def test_diversity(sizes: list[int], rows: int, width: int) -> None:
    codes = torch.stack([torch.randint(K, (rows,)) for K in sizes], dim=1)
    codes[2:4] = -1
    books = torch.cat([oracle.clustered(K, width, 3, seed=K) for K in sizes])
    groups, seed = torch.randint(3, (sum(sizes),)), torch.tensor(11)
    expected = reference.diversity(codes, books, sizes, groups, seed, True)
    found = backend.diversity(*to_device(codes, books), sizes, *to_device(groups, seed), True)
    for a, b in zip(found, expected):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-5, atol=1e-6)
    alone = backend.diversity(*to_device(codes, books), sizes, *to_device(groups, seed), False)
    assert torch.equal(alone[0], found[0])
    assert alone[1].shape == (0, width)
