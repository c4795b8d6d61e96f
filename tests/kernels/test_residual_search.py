"""Every CPU backend gives exact codes: argmin of real-number distances, lowest index on ties."""

from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from letter_fast import kernels
from letter_fast.kernels import cpp, reference
from tests.support import oracle
from tests.support.cpu_backends import same_bits

# The oracle is slow, and asked the same for every backend.
_answers: dict[bytes, tuple[list[list[int]], Tensor]] = {}


def check(backend: kernels.Backend, x: Tensor, codebooks: list[Tensor]) -> None:
    question = pickle.dumps([table.numpy() for table in (x, *codebooks)])
    if question not in _answers:
        _answers[question] = oracle.residual_search(x, codebooks)
    expected, residual = _answers[question]
    sizes = [len(table) for table in codebooks]
    codes, quantized, margins, errors = backend.residual_search(
        x, torch.cat(codebooks), sizes, with_margins=True
    )
    assert codes.tolist() == expected
    total = torch.zeros_like(x)
    for level, table in enumerate(codebooks):
        total = total + table[codes[:, level]]
    assert torch.equal(quantized, total)
    torch.testing.assert_close(errors[:, -1], residual.double().square().sum(1).float())
    assert bool((margins >= 0).all())
    plain = backend.residual_search(x, torch.cat(codebooks), sizes)
    assert torch.equal(plain[0], codes)
    assert torch.equal(plain[1], quantized)
    assert plain[2].shape == plain[3].shape == (0, len(sizes))


@pytest.mark.parametrize("width", [1, 2, 3, 8, 17, 32, 33, 100, 200])
@pytest.mark.parametrize("sizes", [[1], [3, 5], [16, 1, 17]])
def test_awkward_sizes(backend: kernels.Backend, width: int, sizes: list[int]) -> None:
    x = oracle.clustered(21, width, 6, seed=width)
    books = [oracle.clustered(size, width, 6, seed=7 + size) for size in sizes]
    check(backend, x, books)


@pytest.mark.parametrize("scale", [1e-44, 1e-38, 1e-30, 1e-6, 1e6, 1e18, 1e30])
def test_scale_is_ordinary(backend: kernels.Backend, scale: float) -> None:
    x = oracle.clustered(30, 9, 5, seed=1) * scale
    check(backend, x, [oracle.clustered(20, 9, 5, seed=2) * scale, x[:7].clone()])


def test_rows_of_mixed_scale(backend: kernels.Backend) -> None:
    scales = 10.0 ** torch.linspace(-40, 18, 40)
    x = oracle.clustered(40, 12, 5, seed=3) * scales[:, None]
    books = oracle.clustered(25, 12, 5, seed=4) * (10.0 ** torch.linspace(-40, 18, 25))[:, None]
    check(backend, x, [books])


@pytest.mark.parametrize("width", [1, 4, 32])
def test_one_step_from_a_tie(backend: kernels.Backend, width: int) -> None:
    x, codebook = oracle.near_ties(60, width, 9, seed=width)
    check(backend, x, [codebook])


def test_grid_values_tie_exactly(backend: kernels.Backend) -> None:
    generator = torch.Generator().manual_seed(5)
    x = torch.randint(-2, 3, (80, 4), generator=generator).float()
    books = [torch.randint(-2, 3, (30, 4), generator=generator).float() for _ in range(3)]
    check(backend, x, books)


def test_duplicate_codewords_count_as_the_first(backend: kernels.Backend) -> None:
    base = oracle.clustered(5, 6, 3, seed=6)
    check(backend, oracle.clustered(40, 6, 3, seed=7), [base[[0, 1, 0, 2, 1, 3, 4, 4]]])


def test_margin_is_the_gap_to_the_next_distinct_codeword(backend: kernels.Backend) -> None:
    codebook = torch.tensor([[0.0], [3.0], [0.0], [10.0]])
    x = torch.tensor([[1.0], [9.0]])
    _, _, margins, _ = backend.residual_search(x, codebook, [4], with_margins=True)
    assert margins[:, 0].tolist() == [3.0, 35.0]
    _, _, alone, _ = backend.residual_search(x, codebook[[0, 2]], [2], with_margins=True)
    assert alone[:, 0].tolist() == [float("inf")] * 2


def test_nonfinite_rows_are_marked_alone(backend: kernels.Backend) -> None:
    x = oracle.clustered(20, 8, 4, seed=8)
    book = oracle.clustered(12, 8, 4, seed=9)
    clean = backend.residual_search(x, book, [12], with_margins=True)
    dirty = x.clone()
    dirty[3, 2], dirty[7, 0], dirty[11, 7] = float("nan"), float("inf"), float("-inf")
    codes, quantized, margins, errors = backend.residual_search(
        dirty, book, [12], with_margins=True
    )
    bad = [3, 7, 11]
    good = [row for row in range(20) if row not in bad]
    assert (codes[bad] == -1).all()
    assert (quantized[bad] == 0).all()
    assert margins[bad].isnan().all()
    assert errors[bad].isnan().all()
    for kept, seen in zip(clean, (codes, quantized, margins, errors)):
        assert torch.equal(kept[good], seen[good])


def test_nonfinite_codewords_never_win(backend: kernels.Backend) -> None:
    x = oracle.clustered(20, 8, 4, seed=10)
    book = oracle.clustered(12, 8, 4, seed=11)
    broken = book.clone()
    broken[4, 0], broken[0, 7] = float("nan"), float("inf")
    keep = [k for k in range(12) if k not in (0, 4)]
    expected = torch.tensor(keep)[oracle.nearest(x, book[keep])]
    codes, _, _, _ = backend.residual_search(x, broken, [12])
    assert torch.equal(codes[:, 0], expected)
    all_bad, _, _, _ = backend.residual_search(x, torch.full((3, 8), torch.nan), [3])
    assert (all_bad == -1).all()


def test_a_residual_that_overflows_marks_the_row(backend: kernels.Backend) -> None:
    x, books = torch.tensor([[3e38], [-3e38]]), torch.tensor([[-3e38], [1.0]])
    codes, quantized, _, _ = backend.residual_search(x, books, [1, 1])
    assert codes.tolist() == [[-1, -1], [0, 0]]
    assert torch.equal(quantized, torch.tensor([[0.0], [-3e38]]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_default_dtype_does_not_matter(backend: kernels.Backend, dtype: torch.dtype) -> None:
    x, book = oracle.clustered(30, 6, 4, seed=21), oracle.clustered(9, 6, 4, seed=22)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        check(backend, x, [book, book])
        found = backend.residual_search_beam(x, torch.cat([book, book]), [9, 9], 3)
        assert (found[0].dtype, found[1].dtype) == (torch.int64, torch.float32)
        assert [part.dtype for part in backend.nearest(x, book, None)] == [
            torch.int64,
            torch.float64,
        ]
    finally:
        torch.set_default_dtype(before)


def test_codes_do_not_depend_on_the_batch(backend: kernels.Backend) -> None:
    x = oracle.clustered(257, 16, 10, seed=12)
    books = torch.cat([oracle.clustered(40, 16, 10, seed=s) for s in (13, 14)])
    whole = backend.residual_search(x, books, [40, 40])
    for step in (1, 7, 64):
        parts = [backend.residual_search(part, books, [40, 40]) for part in x.split(step)]
        assert torch.equal(whole[0], torch.cat([part[0] for part in parts]))
        assert torch.equal(whole[1], torch.cat([part[1] for part in parts]))


def test_no_rows(backend: kernels.Backend) -> None:
    codes, quantized, margins, _ = backend.residual_search(
        torch.empty(0, 4), torch.ones(5, 4), [2, 3], with_margins=True
    )
    assert codes.shape == (0, 2)
    assert quantized.shape == (0, 4)
    assert margins.shape == (0, 2)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_small_integers_and_halves(data: st.DataObject) -> None:
    value = st.integers(-4, 4).map(lambda n: n / 2)
    width = data.draw(st.integers(1, 3))
    word = st.lists(value, min_size=width, max_size=width)
    x = torch.tensor(data.draw(st.lists(word, min_size=1, max_size=6)))
    book = torch.tensor(data.draw(st.lists(word, min_size=1, max_size=6)))
    for name in ("reference", "cpp"):
        with kernels.use_backend(name):
            check(kernels.pick(torch.device("cpu")), x, [book, book])


# What follows tests the C++ screen where it has work to do, against the reference.


def same(x: Tensor, books: list[Tensor], offset: Tensor | None = None) -> None:
    """Both backends agree bit for bit on codes and sums, and closely on what is measured."""
    arguments = (x, torch.cat(books), [len(book) for book in books], offset, True, True)
    expected, found = reference.residual_search(*arguments), cpp.residual_search(*arguments)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    plain = cpp.residual_search(*arguments[:4])  # without margins: another path
    assert torch.equal(plain[0], expected[0])
    assert torch.equal(plain[1], expected[1])
    bare = cpp.residual_search(*arguments[:4], with_quantized=False)
    assert torch.equal(bare[0], expected[0])
    assert bare[1].shape == (0, x.shape[1])
    # A margin is a difference of two distances that float64 knows to 2⁻⁵² of themselves.
    noise = float(
        x.double().square().sum(1).nan_to_num(0, 0).max()
        + torch.cat(books).double().square().sum(1).nan_to_num(0, 0).max()
    )
    for measured, truth in zip(found[2:], expected[2:]):
        torch.testing.assert_close(measured, truth, rtol=1e-6, atol=1e-13 * noise, equal_nan=True)


@pytest.mark.parametrize(
    ("width", "sizes"),
    [
        (1, [300]),
        (5, [257, 31]),
        (16, [255, 256, 1]),
        (17, [64, 65]),
        (32, [256, 256, 256]),
        (33, [1100]),
        (64, [2100, 40]),
        (130, [500]),
        (768, [300, 70]),
        (1500, [40]),
    ],
)
def test_screen_on_clusters(instruction_set: str, width: int, sizes: list[int]) -> None:
    x = oracle.clustered(700, width, 30, seed=width)
    same(x, oracle.levels(x, sizes))


@pytest.mark.parametrize("scale", [1e-40, 1e-20, 1e-9, 1e9, 1e20, 1e37])
def test_screen_at_any_scale(instruction_set: str, scale: float) -> None:
    x = oracle.clustered(200, 20, 30, seed=1)
    books = oracle.levels(x, [100, 50])
    same(x * scale, [book * scale for book in books])
    same(x * scale, books)
    same(x, [book * scale for book in books])


def test_screen_with_lone_outliers(instruction_set: str) -> None:
    # One huge element sets the scale of all others: the bytes say little, and settling decides.
    x = oracle.clustered(300, 24, 30, seed=2)
    x[::7, 3] *= 1e4
    books = oracle.levels(x, [200])
    books[0][5, 7] = 3e5
    same(x, books)


@pytest.mark.parametrize("width", [3, 32, 100])
def test_screen_one_step_from_ties(instruction_set: str, width: int) -> None:
    x, codebook = oracle.near_ties(2000, width, 300, seed=width)
    same(x, [codebook])
    same(x, [torch.cat([codebook[150:], codebook])])


def test_screen_of_one_point(instruction_set: str) -> None:
    # All codewords within float32 of each other: every row collects more than it can hold.
    centre = torch.randn(12)
    steps = torch.randint(-2, 3, (300, 12)) * torch.finfo(torch.float32).eps
    same(centre + torch.randn(50, 12), [centre * (1 + steps)])
    same(torch.zeros(9, 12), [centre * (1 + steps)])


def test_screen_on_a_grid(instruction_set: str) -> None:
    x = torch.randint(-3, 4, (2000, 8)).bfloat16().float()
    same(x, [torch.randint(-3, 4, (300, 8)).float() for _ in range(3)])


def test_screen_with_offsets(instruction_set: str) -> None:
    x = oracle.clustered(500, 32, 30, seed=3)
    books = oracle.levels(x, [256, 40])
    for scale in (1e-3, 1.0, 1e3, 1e12):
        same(x, books, scale * torch.randn(296, dtype=torch.float64))
    # What all offsets have in common, or what they cancel, must not take the difference with it.
    same(x, books, torch.full((296,), 1e20, dtype=torch.float64))
    same(x, books, -torch.cat(books).double().square().sum(1))
    same(x * 1e-20, books, -torch.cat(books).double().square().sum(1))
    twins = [torch.cat([book, book]) for book in books]
    same(x, twins, torch.randint(3, (592,)).double())


@pytest.mark.parametrize("change", ["a twin", "its first", "no number", "a number"])
def test_codewords_left_out_that_change(instruction_set: str, change: str) -> None:
    # Packed codebooks are kept; what they left out has to be looked at too.
    x = oracle.clustered(300, 12, 30, seed=8)
    book = oracle.levels(x, [60])[0]
    book[20], book[50] = book[10], float("nan")
    same(x, [book])
    same(x, [book.clone()])
    row = {"a twin": 20, "its first": 10, "no number": 30, "a number": 50}[change]
    book[row] = float("nan") if change == "no number" else x[17]
    same(x, [book])


def test_an_error_between_two_float32_numbers(instruction_set: str) -> None:
    # Halfway: to the even one, as if it were summed in order.
    small = 2.0**-12
    x = torch.tensor([[1.0, small, 0.0, 0.0], [1.0, small, small, small]])
    _, _, _, errors = cpp.residual_search(x, torch.zeros(1, 4), [1], with_margins=True)
    assert errors[:, 0].tolist() == [1.0, 1.0 + 2.0**-22]


def test_half_precision_and_strides(instruction_set: str) -> None:
    x = oracle.clustered(300, 41, 30, seed=4)
    x[7, 5] = float("nan")
    books = oracle.levels(x.nan_to_num(), [130, 60])
    for half in (torch.float16, torch.bfloat16):
        same(x.to(half), books)
        same(x.to(half).T.contiguous().T, books)
    tiny = torch.arange(-700, 700).view(35, 40).mul(2.0**-24).half()  # float16 subnormals too
    same(tiny, [tiny[::5].float()])
    same(x.T.contiguous().T, books)
    same(x[::3, 1::2], [book[:, 1::2].contiguous() for book in books])
    same(x[:1].expand(9, -1), books)


def test_the_same_bits_whatever_computes_them() -> None:
    x = oracle.clustered(3000, 32, 30, seed=5)
    arguments = (x, torch.cat(oracle.levels(x, [256, 256])), [256, 256], None, True)

    def found() -> list[Tensor]:
        with_margins = cpp.residual_search(*arguments, True)
        return [*with_margins, *cpp.residual_search(*arguments)[:2]]

    same_bits(found)


def test_an_unknown_instruction_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETTER_FAST_INSTRUCTION_SET", "sse9")
    with pytest.raises(ValueError, match=r"'sse9'; this processor has portable"):
        cpp.nearest(torch.ones(1, 2), torch.ones(1, 2), None)
