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

# isort: split
import triton.language as tl  # the backend says first that it is to interpret

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


def test_beam_of_wide_rows_and_of_more_paths_than_a_tile() -> None:
    books = [oracle.clustered(size, 130, 4, seed=size) for size in (5, 6, 7)]
    check_beam(oracle.clustered(3, 130, 4, seed=17), books, 3)
    books = [book[:, :6].contiguous() for book in books]
    x = oracle.clustered(3, 6, 4, seed=17)
    check_beam(x, books, 20)
    with mock.patch.object(beams, "MOST_BEAM", 19):
        check_beam(x, books, 20)


def test_beam_lists_few_extensions() -> None:
    """Otherwise each row would be compared with everything in float64."""
    real, lengths = beams.extend_kernel, []

    class Spy:
        def __getitem__(self, grid: tuple[int]) -> object:
            return lambda *args, **options: (
                lengths.append(args[6].max()),
                real[grid](*args, **options),
            )

    x = oracle.clustered(10, 8, 8, seed=17)
    with mock.patch.object(beams, "extend_kernel", Spy()):
        check_beam(x, [oracle.clustered(40, 8, 8, seed=s) * 0.7**s for s in range(3)], 4)
    assert [int(each) for each in lengths] == [pytest.approx(4, abs=4)] * 2 + [1]


@pytest.mark.parametrize("width", [32, 192])
def test_a_bound_too_small_gives_wrong_paths(width: int) -> None:
    pack = beams.pack

    def optimistic(*arguments: object) -> object:
        packed = pack(*arguments)
        return packed._replace(limits=packed.limits * 0.01)

    x, book = oracle.between(60, width, 1e-5)
    check_beam(x, [book], 1)
    with mock.patch.object(beams, "pack", optimistic), pytest.raises(AssertionError):
        check_beam(x, [book], 1)


def test_paths_as_long_as_one_another() -> None:
    """Float32 loses more of their squares than the next codeword changes."""
    generator = torch.Generator().manual_seed(1)
    one = torch.randn(16, generator=generator)
    order = torch.rand(12, 16, generator=generator).argsort(dim=1)
    books = [one[order], 1e-8 * torch.randn(3, 16, generator=generator)]
    check_beam(torch.zeros(1, 16), books, 12)
    with (
        mock.patch.object(beams, "_ROUNDING", tl.constexpr(0.0)),
        pytest.raises(AssertionError),
    ):
        check_beam(torch.zeros(1, 16), books, 12)


def check_beam(x: Tensor, books: list[Tensor], beam: int) -> None:
    table, sizes = torch.cat(books), [len(book) for book in books]
    expected = reference.residual_search_beam(x, table, sizes, beam)
    found = backend.residual_search_beam(x.to(DEVICE), table.to(DEVICE), sizes, beam)
    assert torch.equal(found[0].cpu(), expected[0])
    assert torch.equal(found[1].cpu(), expected[1])
