"""Lists of arcs on a GPU, or interpreted, are those of the reference."""

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

packing, listing, tiles = (
    sys.modules[f"{backend.__name__}.{name}"] for name in ("codebook", "within", "tiles")
)

# Scales are tried out where they overflow, and numpy, which interprets, says so.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def check_within(
    x: Tensor, book: Tensor, slack: float, offset: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    offset = torch.zeros(len(book), dtype=torch.float64) if offset is None else offset
    expected = reference.within(x, book, offset, slack)
    found = backend.within(x.to(DEVICE), book.to(DEVICE), offset.to(DEVICE), slack)
    for part, wanted in zip(found, expected, strict=True):
        assert part.dtype == wanted.dtype
        assert torch.equal(part.cpu(), wanted)
    return expected


@pytest.mark.parametrize("width", [1, 17, 33, 130])
@pytest.mark.parametrize(("rows", "words"), [(1, 1), (3, 2), (15, 33), (16, 1), (33, 40)])
def test_within(rows: int, words: int, width: int) -> None:
    x = oracle.clustered(rows, width, 6, seed=width)
    book = oracle.clustered(words, width, 6, seed=7 + words)
    offset = torch.linspace(-1, 1, words, dtype=torch.float64)
    check_within(x, book, 1e-9, offset)
    check_within(x, book, 0.1 * width, offset)


def test_infinite_slack_lists_everything() -> None:
    x, book = oracle.clustered(5, 3, 4, seed=1), oracle.clustered(40, 3, 4, seed=2)
    starts, words, _ = check_within(x, book, math.inf)
    assert starts.tolist() == [40 * row for row in range(6)]
    assert words.tolist() == 5 * list(range(40))


def test_equal_codewords_are_all_listed() -> None:
    book = oracle.clustered(5, 6, 3, seed=6)[[0, 1, 0, 2, 1, 3, 4, 4]]
    starts, words, _ = check_within(book[[0, 5, 7]], book, 0.0)
    assert starts.tolist() == [0, 2, 3, 5]
    assert words.tolist() == [0, 2, 5, 6, 7]
    check_within(book[:3], book, 0.0, torch.arange(8, dtype=torch.float64))


@pytest.mark.parametrize("slack", [0.0, 1.0, 2.0])
def test_integers_tie_exactly(slack: float) -> None:
    generator = torch.Generator().manual_seed(5)
    x = torch.randint(-2, 3, (17, 4), generator=generator).float()
    book = torch.randint(-2, 3, (40, 4), generator=generator).float()
    offset = torch.randint(-2, 3, (40,), generator=generator).double()
    check_within(x, book, slack)
    check_within(x, book, slack, offset)


@pytest.mark.parametrize("width", [3, 140])
def test_on_the_border(width: int) -> None:
    """The slack is the very gap between two scores, or a float64 step less."""
    x, book = oracle.clustered(3, width, 3, seed=width), oracle.clustered(9, width, 3, seed=1)
    offset = torch.zeros(9, dtype=torch.float64)
    _, _, costs = reference.within(x, book, offset, math.inf)
    scores = costs.view(3, 9).sort(dim=1).values
    for row, rank in ((0, 1), (1, 4), (2, 8)):
        gap = float(scores[row, rank] - scores[row, 0])
        check_within(x, book, gap)
        check_within(x, book, math.nextafter(gap, 0.0))


@pytest.mark.parametrize("scale", [1e-44, 1e-30, 1e-15, 1e15, 1e18, 1e30])
@pytest.mark.parametrize("width", [9, 130])
def test_any_scale(scale: float, width: int) -> None:
    x = oracle.clustered(6, width, 5, seed=1) * scale
    book = oracle.clustered(7, width, 5, seed=2) * scale
    offset = scale**2 * torch.linspace(0, 3, 7, dtype=torch.float64)
    for slack in (0.0, scale**2 * width):
        check_within(x, book, slack, offset)


@pytest.mark.parametrize("size", [1e-300, 1e-46, 1e6, 1e15, 1e200])
def test_large_and_tiny_offsets(size: float) -> None:
    x, book = oracle.clustered(6, 5, 4, seed=15), oracle.clustered(17, 5, 4, seed=16)
    offset = size * torch.linspace(1, -1, 17, dtype=torch.float64)
    for words in (book, torch.zeros(17, 5)):
        for slack in (0.0, 0.3 * size):
            check_within(x, words, slack, offset)


def test_an_offset_below_float32_decides() -> None:
    offset = 2.0**-149 * torch.tensor([0.8, 1.2], dtype=torch.float64)
    starts, _, _ = check_within(torch.zeros(1, 3), torch.zeros(2, 3), 2.0**-150, offset)
    assert starts[-1] == 2


@pytest.mark.parametrize("distance", [1e6, 1e9, 1e15, 1e17, 1e25])
def test_rows_far_from_all_codewords(distance: float) -> None:
    """Codewords that float64 can't tell apart are equal."""
    x = oracle.clustered(8, 3, 4, seed=17) * distance
    book = oracle.clustered(30, 3, 4, seed=18)
    starts, _, _ = check_within(x, book, 0.0)
    if distance > 1e16:
        assert starts[-1] > 2 * len(x)
    check_within(x, book, distance)


def test_rows_and_codewords_of_mixed_scale() -> None:
    scale = (10.0 ** torch.linspace(-40, 18, 12))[:, None]
    x = oracle.clustered(12, 12, 5, seed=3) * scale
    book = oracle.clustered(12, 12, 5, seed=4) * scale
    for slack in (0.0, 1e-30, 1.0, 1e30):
        check_within(x, book, slack)


def test_zero_rows_and_codewords() -> None:
    x = oracle.clustered(4, 8, 3, seed=5)
    x[1] = 0.0
    check_within(x, torch.zeros(3, 8), 0.0)
    check_within(x, torch.cat([x[:2], torch.zeros(2, 8)]), 0.0)


def test_nothing_that_is_not_finite_is_listed() -> None:
    x, book = oracle.clustered(6, 4, 3, seed=8), oracle.clustered(8, 4, 3, seed=9)
    offset = torch.zeros(8, dtype=torch.float64)
    x[2, 1], x[4, 0] = math.nan, math.inf
    book[0, 0], book[3, 2] = math.nan, -math.inf
    offset[5], offset[6], offset[7] = math.nan, math.inf, -math.inf
    for slack in (0.0, math.inf):
        starts, words, _ = check_within(x, book, slack, offset)
        assert starts.diff()[[2, 4]].tolist() == [0, 0]
        assert set(words.tolist()) <= {1, 2, 4}
    starts, _, _ = check_within(x, torch.full((2, 4), math.nan), 1.0)
    assert starts[-1] == 0


def test_any_strides_and_half_precision_rows() -> None:
    x, book = oracle.clustered(20, 12, 5, seed=15), oracle.clustered(9, 12, 5, seed=16)
    expected = check_within(x, book, 1.0)
    strided = torch.zeros(24, 20).T
    strided[:, ::2] = x
    for view in (strided[:, ::2], x.repeat(1, 2)[:, :12]):
        found = check_within(view, book, 1.0)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    for dtype in (torch.float16, torch.bfloat16):
        check_within(x.to(dtype), book, 1.0)


def test_within_in_slabs_and_without_rows() -> None:
    x, book = oracle.clustered(23, 5, 5, seed=12), oracle.clustered(40, 5, 5, seed=13)
    with mock.patch.object(listing, "SLAB_BYTES", 7 * (4 * 16 + 128 // 8)):
        check_within(x, book, 1.0)
    starts, words, costs = check_within(x[:0], book, 1.0)
    assert (starts.tolist(), len(words), len(costs)) == ([0], 0, 0)


def test_tiles_of_several_groups_of_bits() -> None:
    x, book = oracle.clustered(18, 6, 5, seed=12), oracle.clustered(140, 6, 5, seed=13)
    tile = tiles.Tile(16, 64, 1, 1)
    with mock.patch.object(listing, "narrow", return_value=(tile, tile)):
        check_within(x, book, 3.0)


def test_a_bound_too_small_loses_codewords() -> None:
    """Rows off the middle of two codewords: half of the gaps are just within the slack."""
    x, book = oracle.near_ties(100, 32, 2, seed=4)
    offset = torch.zeros(2, dtype=torch.float64)
    x += 1e-5 * torch.linspace(-1, 1, 100)[:, None] * (book[0] - book[1])
    _, _, costs = reference.within(x, book, offset, math.inf)
    gaps = costs.view(100, 2).diff(dim=1).abs()
    slack = float(gaps.median())
    pack = packing.pack

    def optimistic(*arguments: object) -> object:
        packed = pack(*arguments)
        return packed._replace(limits=packed.limits * 0.01)

    starts, _, _ = check_within(x, book, slack)
    assert starts[-1] == 100 + int((gaps <= slack).sum())
    with mock.patch.object(listing, "pack", optimistic):
        found = backend.within(x.to(DEVICE), book.to(DEVICE), offset.to(DEVICE), slack)
    assert found[0][-1] < starts[-1]
