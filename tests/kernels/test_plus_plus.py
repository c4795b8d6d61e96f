"""k-means++: the draws that the reference makes, and the same ones from every instruction set."""

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
@pytest.mark.parametrize(
    ("rows", "width", "k"), [(1, 1, 1), (63, 3, 9), (64, 5, 64), (301, 32, 40)]
)
def test_draws_as_the_reference(rows: int, width: int, k: int) -> None:
    x = torch.stack([oracle.clustered(rows, width, 4, seed=seed) for seed in (1, 2, 3)])
    draws = torch.rand(3, k, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    expected = reference.plus_plus(x, draws)
    assert torch.equal(cpp.plus_plus(x, draws), expected)
    strided = x.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(cpp.plus_plus(strided, draws), expected)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("draw", [0.0, 0.5, 1 - 2.0**-53])
def test_extreme_draws_never_take_a_row_twice(draw: float) -> None:
    x = torch.arange(130.0)[None, :, None]
    draws = torch.full((1, 130), draw, dtype=torch.float64)
    assert cpp.plus_plus(x, draws).sort().values.tolist() == [list(range(130))]


@pytest.mark.usefixtures("instruction_set")
def test_fewer_distinct_rows_than_starts() -> None:
    x = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).repeat(40, 1)[None]
    draws = torch.rand(1, 10, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    picks = cpp.plus_plus(x, draws)
    assert torch.equal(picks, reference.plus_plus(x, draws))
    assert len(x[0, picks[0]].unique(dim=0)) == 2
