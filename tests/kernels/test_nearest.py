"""One level of every CPU backend: scores, offsets, and no residual."""

from __future__ import annotations

import pytest
import torch

from letter_fast import kernels
from tests.support import oracle


def test_nearest_has_no_residual_that_could_overflow(backend: kernels.Backend) -> None:
    code, score = backend.nearest(torch.tensor([[3e38]]), torch.tensor([[-3e38]]), None)
    assert code.tolist() == [0]
    assert score.item() == pytest.approx(3.6e77)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e6])
def test_nearest_with_offset(backend: kernels.Backend, scale: float) -> None:
    x = oracle.clustered(50, 5, 4, seed=15)
    book = oracle.clustered(17, 5, 4, seed=16)
    offset = scale * torch.linspace(-1, 1, 17, dtype=torch.float64)
    code, score = backend.nearest(x, book, offset)
    assert code.tolist() == oracle.nearest(x, book, offset)
    expected = (x.double() - book[code].double()).square().sum(1) + offset[code]
    torch.testing.assert_close(score, expected, rtol=1e-12, atol=1e-12 * max(scale, 1.0))


def test_offsets_decide_between_duplicates(backend: kernels.Backend) -> None:
    book = torch.zeros(4, 3)
    offset = torch.tensor([1.0, 0.5, 0.5, 2.0], dtype=torch.float64)
    code, score = backend.nearest(torch.ones(6, 3), book, offset)
    assert code.tolist() == [1] * 6
    assert score.tolist() == [3.5] * 6
