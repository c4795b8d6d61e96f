"""The beam of the Triton backend, on a GPU or interpreted, finds what the reference finds."""

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

# The package has a function of this module's name, so `import` would find that.
beams = sys.modules[f"{backend.__name__}.residual_search_beam"]

# Scales are tried out where they overflow, and numpy, which interprets, says so.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.mark.parametrize("beam", [1, 2, 5])
def test_beam_agrees_with_the_reference(beam: int) -> None:
    x = oracle.clustered(10, 6, 8, seed=17)
    x[2, 1] = math.nan
    books = [oracle.clustered(9, 6, 8, seed=s) * 0.7**s for s in range(3)]
    books[1][3] = books[1][1]
    check_beam(x, books, beam)


@pytest.mark.parametrize("beam", [1, 3, 12])
def test_beam_ties_go_to_the_lowest_path(beam: int) -> None:
    generator = torch.Generator().manual_seed(5)
    x = torch.randint(-2, 3, (2, 2), generator=generator).float()
    check_beam(x, [torch.randint(-2, 3, (7, 2), generator=generator).float() for _ in "abc"], beam)


def test_beam_takes_slabs_and_drops_overflowing_paths() -> None:
    x = torch.tensor([[3e38], [1.0], [-2.0]])
    books = [torch.tensor([[-3e38], [2.0]]), torch.tensor([[1.0], [-1.0]])]
    with mock.patch.object(beams, "BEAM_BYTES", 1):
        check_beam(x, books, 2)


def test_beam_border_below_float64() -> None:
    x = torch.zeros(2, 2)
    book = torch.tensor([[1.0, 2.0**-40], [-1.0, 2.0**-41], [1.0, -(2.0**-41)], [1.0, 2.0**-39]])
    check_beam(x, [book, 0.1 * book + 0.3], 2)


def check_beam(x: Tensor, books: list[Tensor], beam: int) -> None:
    table, sizes = torch.cat(books), [len(book) for book in books]
    expected = reference.residual_search_beam(x, table, sizes, beam)
    found = backend.residual_search_beam(x.to(DEVICE), table.to(DEVICE), sizes, beam)
    assert torch.equal(found[0].cpu(), expected[0])
    assert torch.equal(found[1].cpu(), expected[1])
