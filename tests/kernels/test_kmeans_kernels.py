"""What k-means adds to the search: integer sums, and a search that knows the answer before."""

from __future__ import annotations

import oracle
import pytest
import torch

from letter_fast.kernels import cpp, reference
from letter_fast.kernels.cpp import library

SETS = library.INSTRUCTION_SETS[: 1 + library.load().lf_instruction_set()]


@pytest.fixture(params=SETS)
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETTER_FAST_INSTRUCTION_SET", request.param)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("rows", "width", "count"), [(1, 1, 1), (300, 33, 7), (5000, 8, 300)])
def test_code_sums(rows: int, width: int, count: int, dtype: torch.dtype) -> None:
    x = oracle.clustered(rows, width, 4, seed=1).to(dtype)
    codes = torch.arange(rows) * 7 % (count + 1) - 1
    expected = reference.code_sums(x, codes, count, 30)
    for view in (x, x.T.contiguous().T):
        for ours, plain in zip(cpp.code_sums(view, codes, count, 30), expected):
            assert torch.equal(ours, plain)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("width", [3, 32, 100])
def test_nearest_again_is_nearest(width: int) -> None:
    """Whatever moved, and however little: bounds vouch for a code only where it is the nearest."""
    x, book = oracle.clustered(700, width, 9, seed=2), oracle.clustered(40, width, 9, seed=3)
    codes = torch.full((700,), -1)
    bounds, movement = torch.zeros(700), torch.zeros(40)
    generator = torch.Generator().manual_seed(4)
    for size in (0.0, 1e-6, 1e-3, 0.1, 3.0, 0.0):
        step = size * torch.randn(40, width, generator=generator)
        moved = book + step
        gone = (moved.double() - book.double()).square().sum(1).sqrt()
        movement = (gone * (1 + 2.0**-20)).float()
        book = moved
        found = cpp.nearest_again(x, book, codes, bounds, movement)
        expected, score = reference.nearest(x, book, None)
        assert torch.equal(found[0], expected)
        torch.testing.assert_close(found[1], score, rtol=1e-12, atol=0)
        others = torch.cdist(x.double(), book.double()).scatter(1, expected[:, None], torch.inf)
        assert bool((found[2].double() <= others.amin(dim=1) * (1 + 1e-12)).all())
        codes, bounds = found[0], found[2]
