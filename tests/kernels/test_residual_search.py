"""Every CPU backend gives exact codes: argmin of real-number distances, lowest index on ties."""

from __future__ import annotations

import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from letter_fast import kernels

BACKENDS = [name for name in kernels.BACKENDS if name != "triton"]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> kernels.Backend:
    with kernels.use_backend(request.param):
        return kernels.pick(torch.device("cpu"))


def check(backend: kernels.Backend, x: Tensor, codebooks: list[Tensor]) -> None:
    expected, residual = oracle.residual_search(x, codebooks)
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
    x = torch.tensor([[3e38], [1.0]])
    book = torch.tensor([[-3e38]])
    codes, quantized, _, _ = backend.residual_search(x, torch.cat([book, book]), [1, 1])
    assert codes.tolist() == [[-1, -1], [0, 0]] or codes.tolist() == [[-1, -1], [-1, -1]]
    assert codes[0].tolist() == [-1, -1]
    assert quantized[0].item() == 0.0


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


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_small_integers_and_halves(data: st.DataObject) -> None:
    value = st.integers(-4, 4).map(lambda n: n / 2)
    width = data.draw(st.integers(1, 3))
    word = st.lists(value, min_size=width, max_size=width)
    x = torch.tensor(data.draw(st.lists(word, min_size=1, max_size=6)))
    book = torch.tensor(data.draw(st.lists(word, min_size=1, max_size=6)))
    for name in BACKENDS:
        with kernels.use_backend(name):
            check(kernels.pick(x.device), x, [book, book])


@pytest.mark.parametrize("beam", [1, 2, 5])
def test_beam_one_is_greedy_and_wider_is_no_worse(backend: kernels.Backend, beam: int) -> None:
    x = oracle.clustered(40, 6, 8, seed=17)
    books = [oracle.clustered(9, 6, 8, seed=s) * 0.7**s for s in range(3)]
    table = torch.cat(books)
    codes, quantized = backend.residual_search_beam(x, table, [9, 9, 9], beam)
    greedy, sums, _, _ = backend.residual_search(x, table, [9, 9, 9])
    if beam == 1:
        assert torch.equal(codes, greedy)
        assert torch.equal(quantized, sums)
    error, plain = ((x - q).square().sum() for q in (quantized, sums))
    assert error <= plain * (1 + 1e-6)


def test_a_beam_of_all_paths_is_exhaustive(backend: kernels.Backend) -> None:
    x = oracle.clustered(25, 4, 5, seed=18)
    books = [oracle.clustered(5, 4, 5, seed=s) for s in (19, 20)]
    codes, _ = backend.residual_search_beam(x, torch.cat(books), [5, 5], 5)
    for row, code in zip(x, codes.tolist()):
        paths = [(a, b) for a in range(5) for b in range(5)]
        cost = {
            (a, b): float(((row - books[0][a]) - books[1][b]).double().square().sum())
            for a, b in paths
        }
        assert tuple(code) == min(paths, key=lambda path: (cost[path], path))


def test_beam_ties_go_to_the_lowest_path(backend: kernels.Backend) -> None:
    books = torch.tensor([[1.0], [-1.0], [1.0], [-1.0], [0.0]])
    codes, _ = backend.residual_search_beam(torch.zeros(3, 1), books, [2, 3], 4)
    assert codes.tolist() == [[0, 1]] * 3
    codes, _ = backend.residual_search_beam(torch.full((1, 1), torch.nan), books, [2, 3], 4)
    assert codes.tolist() == [[-1, -1]]
