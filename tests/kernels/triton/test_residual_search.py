"""Exact codes of the Triton backend, on a GPU or interpreted."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from letter_fast.kernels import reference
from letter_fast.kernels.reference.nearest import distinct_codewords
from tests.support import oracle
from tests.support.triton_backend import DEVICE, backend

# The package has functions of these modules' names, so `import` would find those.
packing, screening, stages = (
    sys.modules[f"{backend.__name__}.{name}"]
    for name in ("codebook", "screen_wide", "residual_search")
)

# Scales are tried out where they overflow, and numpy, which interprets, says so.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def search(x: Tensor, books: list[Tensor], **options: bool) -> tuple[Tensor, ...]:
    sizes = [len(book) for book in books]
    found = backend.residual_search(x.to(DEVICE), torch.cat(books).to(DEVICE), sizes, **options)
    return tuple(part.cpu() for part in found)


def check(x: Tensor, books: list[Tensor]) -> None:
    expected, _ = oracle.residual_search(x, books)
    codes, quantized, _, _ = search(x, books)
    assert codes.tolist() == expected
    total = torch.zeros_like(x)
    for level, book in enumerate(books):
        total = total + book[codes[:, level]]
    assert torch.equal(quantized, total)


def check_margins(x: Tensor, books: list[Tensor]) -> None:
    expected = reference.residual_search(
        x, torch.cat(books), [len(book) for book in books], with_margins=True
    )
    found = search(x, books, with_margins=True)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    for part in (2, 3):
        torch.testing.assert_close(found[part], expected[part], equal_nan=True)


def left_over(
    x: Tensor, books: list[Tensor], stage: str, check: Callable[[Tensor, list[Tensor]], None]
) -> list[int]:
    """The numbers of rows that the one-product and the three-product screen of a stage leave."""
    kept = []

    def spy(rows: int, device: torch.device, *number: int) -> tuple[object, ...]:
        found = queues(rows, device, *number)
        kept.append(found[-1])
        return found

    module = sys.modules[f"{backend.__name__}.{stage}"]
    queues = module.queues
    with mock.patch.object(module, "queues", spy):
        check(x, books)
    return torch.cat(kept).flatten().tolist()


@pytest.mark.parametrize("width", [1, 17, 33, 128, 200])
def test_awkward_sizes(width: int) -> None:
    x = oracle.clustered(19, width, 6, seed=width)
    check(x, [oracle.clustered(size, width, 6, seed=7 + size) for size in (3, 40, 1)])


@pytest.mark.parametrize("width", [5, 140])
def test_margins_and_errors(width: int) -> None:
    x = oracle.clustered(4, width, 4, seed=width)
    x[1, 0], x[2] = math.nan, 3e38
    books = [oracle.clustered(size, width, 4, seed=7 + size) for size in (9, 1)]
    books[0][2] = books[0][4]
    check_margins(x, [*books, torch.full((2, width), -3e38)])


def test_narrow_rows_in_the_wide_search() -> None:
    with mock.patch.object(stages, "NARROW_LIMIT", 0):
        check_margins(oracle.clustered(9, 5, 3, seed=1), [oracle.clustered(40, 5, 3, seed=2)] * 2)


@pytest.mark.parametrize("scale", [1e-44, 1e-38, 1e-30, 1e-6, 1e6, 1e18, 1e30])
@pytest.mark.parametrize("width", [9, 130])
def test_scale_is_ordinary(scale: float, width: int) -> None:
    x = oracle.clustered(6, width, 5, seed=1) * scale
    check(x, [oracle.clustered(5, width, 5, seed=2) * scale, x[:3].clone()])


def test_rows_and_codewords_of_mixed_scale() -> None:
    x = oracle.clustered(12, 12, 5, seed=3) * (10.0 ** torch.linspace(-40, 18, 12))[:, None]
    book = oracle.clustered(12, 12, 5, seed=4) * (10.0 ** torch.linspace(-40, 18, 12))[:, None]
    check(x, [book])


def test_zero_rows_and_codewords() -> None:
    x = oracle.clustered(20, 8, 3, seed=5)
    x[4:9] = 0.0
    zeros = torch.zeros(1, 8)
    check(x, [torch.cat([x[:3], -zeros, zeros]), zeros, x[:9] * 1e-4])


@pytest.mark.parametrize("width", [1, 4, 32, 150])
def test_one_step_from_a_tie(width: int) -> None:
    x, book = oracle.near_ties(8, width, 9, seed=width)
    check(x, [book])


def test_grid_values_tie_exactly() -> None:
    generator = torch.Generator().manual_seed(5)
    x = torch.randint(-2, 3, (6, 4), generator=generator).float()
    check(x, [torch.randint(-2, 3, (40, 4), generator=generator).float() for _ in range(2)])


def test_a_difference_below_float64_decides() -> None:
    # d = 1 + 2⁻⁸⁰ and 1 + 2⁻⁸²: equal in float64, and the first would win.
    book = torch.tensor([[1.0, 2.0**-40], [-1.0, 2.0**-41], [1.0, -(2.0**-41)], [2.0, 0.0]])
    check(torch.zeros(2, 2), [book])
    far = torch.tensor([[1e30, 1e-30], [1e30, 0.0], [-1e30, -1e-45], [-1e30, 1e-45]])
    check(torch.tensor([[0.0, 0.0], [0.0, 1e-45], [0.0, -1e-30]]), [far])


def test_ties_across_tiles_go_to_the_lowest() -> None:
    book = oracle.clustered(140, 2, 4, seed=6) + 8.0
    book[[3, 70, 139]] = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    check(torch.zeros(1, 2), [book])


def test_duplicate_codewords_count_as_the_first() -> None:
    base = oracle.clustered(5, 6, 3, seed=6)
    check(oracle.clustered(20, 6, 3, seed=7), [base[[0, 1, 0, 2, 1, 3, 4, 4]]])


def test_nonfinite_rows_are_marked_alone() -> None:
    for width in (8, 130):
        x, book = oracle.clustered(20, width, 4, seed=8), oracle.clustered(12, width, 4, seed=9)
        clean = search(x, [book, book])
        x[3, 2], x[7, 0], x[11, 7] = math.nan, math.inf, -math.inf
        codes, quantized, _, _ = search(x, [book, book])
        bad = torch.tensor([3, 7, 11])
        good = torch.tensor([row for row in range(20) if row not in bad])
        assert (codes[bad] == -1).all()
        assert (quantized[bad] == 0).all()
        assert torch.equal(codes[good], clean[0][good])
        assert torch.equal(quantized[good], clean[1][good])


def test_nonfinite_codewords_never_win() -> None:
    x, book = oracle.clustered(20, 8, 4, seed=10), oracle.clustered(12, 8, 4, seed=11)
    keep = [k for k in range(12) if k not in (0, 4)]
    expected = torch.tensor(keep)[oracle.nearest(x, book[keep])]
    book[4, 0], book[0, 7] = math.nan, math.inf
    assert torch.equal(search(x, [book])[0][:, 0], expected)
    assert (search(x, [torch.full((3, 8), math.nan), book])[0] == -1).all()


@pytest.mark.parametrize("width", [1, 129])
def test_a_residual_that_overflows_marks_the_row(width: int) -> None:
    x = torch.zeros(3, width)
    x[0, 0], x[1, 0] = 3e38, 1.0
    far, near = torch.zeros(2, 1, width)
    far[0, 0] = -3e38
    for books in ([far], [far, near], [near, far]):
        codes, quantized, _, _ = search(x, books)
        assert codes.tolist() == [[-1] * len(books), [0] * len(books), [0] * len(books)]
        assert (quantized[0] == 0).all()


@pytest.mark.parametrize("width", [16, 130])
def test_codes_do_not_depend_on_the_batch(width: int) -> None:
    x = oracle.clustered(40, width, 10, seed=12)
    books = [oracle.clustered(40, width, 10, seed=seed) for seed in (13, 14)]
    whole = search(x, books)
    with (
        mock.patch.object(screening, "SLAB_BYTES", 7 * 4 * 192),
        mock.patch.object(stages, "QUEUE_ROWS", 5),
    ):
        parts = [search(part, books) for part in x.split(33)]
    for at in (0, 1):
        assert torch.equal(whole[at], torch.cat([part[at] for part in parts]))


def test_any_strides_and_half_precision() -> None:
    x = oracle.clustered(30, 12, 5, seed=15)
    books = [oracle.clustered(9, 12, 5, seed=seed) for seed in (16, 17)]
    expected = search(x, books)
    strided = torch.zeros(12, 60).T
    strided[::2] = x
    reversed_copy = x.repeat(1, 2)[:, :12]
    for view in (strided[::2], reversed_copy):
        assert torch.equal(search(view, books)[0], expected[0])
    for dtype in (torch.float16, torch.bfloat16):
        low = x.to(dtype)
        assert torch.equal(search(low, books)[0], search(low.float(), books)[0])


def test_no_rows() -> None:
    books = [torch.ones(2, 4), torch.ones(3, 4)]
    shapes = [tuple(part.shape) for part in search(torch.empty(0, 4), books, with_margins=True)]
    assert shapes == [(0, 2), (0, 4), (0, 2), (0, 2)]
    code, score = backend.nearest(torch.empty(0, 4, device=DEVICE), books[0].to(DEVICE), None)
    assert code.shape == score.shape == (0,)


@settings(max_examples=4, deadline=None, derandomize=True)
@given(st.data())
def test_small_integers_and_halves(data: st.DataObject) -> None:
    value = st.integers(-4, 4).map(lambda n: n / 2)
    width = data.draw(st.integers(1, 3))
    word = st.lists(value, min_size=width, max_size=width)
    x = torch.tensor(data.draw(st.lists(word, min_size=1, max_size=4)))
    book = torch.tensor(data.draw(st.lists(word, min_size=1, max_size=6)))
    check(x, [book, book])


@pytest.mark.parametrize("width", [32, 192])
def test_each_stage_gets_its_rows(width: int) -> None:
    for gap, left in ((0.3, [0, 0]), (1e-4, [20, 0]), (1e-9, [20, 20])):
        case = _listed(oracle.between(20, width, gap))
        assert left_over(*case, "residual_search", check)[:2] == left


@pytest.mark.parametrize(("other", "left"), [(1, 0), (8, 20)])
def test_named_codewords_are_settled_alone(other: int, left: int) -> None:
    """Of two in one lane a third might be lost."""
    x, book = oracle.between(20, 192, 1e-9)
    far = book.mean(dim=0) + 9.0 + torch.arange(9.0)[:, None]
    far[[0, other]] = book
    assert left_over(x, [far], "residual_search", check) == [20, 20, left]


def with_middle(case: tuple[Tensor, Tensor]) -> tuple[Tensor, list[Tensor]]:
    """A codeword in the middle is nearest to all rows; the two others are as near as they were."""
    x, book = case
    return x, [torch.cat([book, book.mean(dim=0, keepdim=True)])]


@pytest.mark.parametrize("width", [32, 192])
def test_each_stage_gets_its_runners_up(width: int) -> None:
    for gap, left in ((0.2, [0, 0]), (1e-4, [20, 0]), (1e-9, [20, 20])):
        case = with_middle(oracle.between(20, width, gap))
        assert left_over(*case, "margins", check_margins) == left


def optimistic(*arguments: object) -> object:
    """Packed codewords with a hundredth of the bound."""
    packed = packing.pack(*arguments)
    return packed._replace(limits=packed.limits * 0.01)


@pytest.mark.parametrize("width", [32, 192])
def test_a_bound_too_small_gives_wrong_codes(width: int) -> None:
    x, book = oracle.between(300, width, 3e-5)
    expected = oracle.nearest(x, book)
    assert search(x, [book])[0][:, 0].tolist() == expected
    with mock.patch.object(stages, "pack", optimistic):
        assert search(x, [book])[0][:, 0].tolist() != expected


@pytest.mark.parametrize("width", [32, 192])
def test_a_bound_too_small_gives_wrong_margins(width: int) -> None:
    """A runner-up that isn't has a larger margin: here by more than float32's rounding."""
    x, books = with_middle(oracle.between(100, width, 3e-5))
    check_margins(x, books)
    with mock.patch.object(stages, "pack", optimistic), pytest.raises(AssertionError):
        check_margins(x, books)


def test_codebooks_are_split_without_loss_and_folded() -> None:
    book = torch.cat([oracle.clustered(20, 7, 4, seed=s) for s in (1, 2)])
    book[30], book[5], book[6], book[7] = book[22], book[2], -0.0, 0.0
    book[11, 3] = math.inf
    offset = torch.zeros(40, dtype=torch.float64)
    packed = packing.pack(book.to(DEVICE), [20, 20], offset.to(DEVICE), 16)
    kept = [distinct_codewords(part) for part in book.split(20)]
    assert packed.allowed.nonzero().squeeze(1).tolist() == [*kept[0], *(20 + kept[1])]
    beta = (packed.exponent << 23).view(torch.float32).cpu()
    for level, start in enumerate((0, packing.SLOTS)):
        slots = slice(start, start + 20)
        high, low = packed.high[slots, :7].double().cpu(), packed.low[slots, :7].double().cpu()
        words = -book[20 * level :][:20].double() * beta[level]
        words[~packed.allowed[20 * level :][:20].bool().cpu()] = 0.0
        rest = (words - high - low * 2.0**-11).norm(dim=1)
        assert rest.max() <= packed.limits[level, 3]
        assert packed.limits[level, 3] <= 2.0**-20 * packed.limits[level, 0]
        assert (packed.bias[start + 20 : start + packing.SLOTS] == packing.NEVER).all()


def _listed(case: tuple[Tensor, Tensor]) -> tuple[Tensor, list[Tensor]]:
    return case[0], [case[1]]
