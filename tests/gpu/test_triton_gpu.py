"""Exact codes on a CUDA device at sizes the interpreter can't reach, against float64 there."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from letter_fast.kernels import host, reference

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

if torch.cuda.is_available():
    from letter_fast.kernels import triton as backend


def clustered(rows: int, width: int, seed: int) -> Tensor:
    """Rows around 200 centres, as latents are."""
    generator = torch.Generator("cuda").manual_seed(seed)
    centres = torch.randn(200, width, device="cuda", generator=generator)
    chosen = torch.randint(200, (rows,), device="cuda", generator=generator)
    noise = torch.randn(rows, width, device="cuda", generator=generator)
    return centres[chosen] + 0.3 * noise


def residual_books(x: Tensor, sizes: list[int]) -> Tensor:
    """Rows of x, then differences between rows: codebooks of the residuals' size."""
    books = []
    for level, size in enumerate(sizes):
        picked = x[torch.arange(size, device=x.device) * 7 % len(x)]
        books.append(picked if level == 0 else (picked - picked.roll(1, 0)) * 0.3**level)
    return torch.cat(books)


def compare(x: Tensor, books: Tensor, sizes: list[int]) -> None:
    expected = reference.residual_search(x, books, sizes)
    found = backend.residual_search(x, books, sizes)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize(
    ("rows", "width", "sizes"),
    [
        (2_500_000, 32, [256] * 4),  # 10⁷ row-levels
        (200_000, 16, [100, 300]),
        (200_000, 64, [1000, 1000]),
        (100_000, 128, [256, 256]),
        (20_000, 768, [1024, 1024, 1024]),
        (20_000, 200, [256, 7]),
    ],
)
def test_codes_equal_the_reference(rows: int, width: int, sizes: list[int]) -> None:
    x = clustered(rows, width, seed=width)
    books = residual_books(x, sizes)
    for part in x.split(250_000):
        compare(part, books, sizes)


@pytest.mark.parametrize("width", [4, 32, 100, 300])
def test_rows_midway_between_codewords(width: int) -> None:
    books = torch.randn(256, width, device="cuda")
    pairs = torch.randint(256, (2, 20_000), device="cuda")
    x = (books[pairs[0]] + books[pairs[1]]) / 2
    x += 10.0 ** (-8 * torch.rand(20_000, 1, device="cuda")) * torch.randn_like(x)
    compare(x, books, [256])


@pytest.mark.parametrize("width", [4, 300])
def test_grid_rows(width: int) -> None:
    x = torch.randint(-1, 2, (500, width), device="cuda").float()
    compare(x, torch.randint(-1, 2, (60, width), device="cuda").float(), [30, 30])


@pytest.mark.parametrize("width", [32, 300])
def test_the_same_codes_from_run_to_run_and_in_parts(width: int) -> None:
    x = clustered(30_000, width, seed=3)
    books = residual_books(x, [256, 256])
    whole = backend.residual_search(x, books, [256, 256])[0]
    assert torch.equal(whole, backend.residual_search(x, books, [256, 256])[0])
    parts = [backend.residual_search(part, books, [256, 256])[0] for part in x.split(977)]
    assert torch.equal(whole, torch.cat(parts))


@pytest.mark.parametrize("width", [32, 300])
def test_marked_rows_and_every_scale(width: int) -> None:
    scale = 10.0 ** torch.linspace(-40, 30, 5000, device="cuda")
    x = clustered(5000, width, seed=4) * scale[:, None]
    x[::7, 1] = math.nan
    x[::11, 0] = -math.inf
    for factor in (1e-38, 1e-20, 1.0, 1e20, 1e30):
        compare(x, clustered(64, width, seed=5) * factor, [32, 32])


@pytest.mark.parametrize("width", [32, 300])
def test_margins(width: int) -> None:
    x = clustered(2000, width, seed=6)
    books = residual_books(x, [64, 64])
    expected = reference.residual_search(x, books, [64, 64], with_margins=True)
    found = backend.residual_search(x, books, [64, 64], with_margins=True)
    assert torch.equal(found[0], expected[0])
    for part in (2, 3):
        torch.testing.assert_close(found[part], expected[part], rtol=1e-5, atol=1e-6)


def test_more_than_two_to_the_31_elements() -> None:
    if torch.cuda.mem_get_info()[0] < 40 << 30:
        pytest.skip("needs 40 GB of GPU memory")
    row = clustered(1000, 32, seed=7).half()
    x = row.repeat((2**31 // 32) // 1000 + 2, 1)
    books = residual_books(row.float(), [256])
    codes = backend.residual_search(x, books, [256], with_quantized=False)[0]
    assert torch.equal(codes[-1000:], reference.residual_search(row, books, [256])[0])


@pytest.mark.parametrize("beam", [1, 4])
def test_beam(beam: int) -> None:
    x = clustered(50, 32, seed=8)
    books = residual_books(x, [20, 20, 20])
    expected = reference.residual_search_beam(x, books, [20, 20, 20], beam)
    found = backend.residual_search_beam(x, books, [20, 20, 20], beam)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize(
    ("rows", "width", "count"), [(1_000_000, 32, 256), (100_000, 768, 1024), (3000, 5, 40_000)]
)
@pytest.mark.parametrize("crowded", [False, True])
def test_code_sums(rows: int, width: int, count: int, crowded: bool) -> None:
    x = clustered(rows, width, seed=9)
    codes = torch.randint(-1, count, (rows,), device="cuda")
    if crowded:
        codes[: rows // 2] = 3
    fixed = (x * (codes >= 0)[:, None]).double().mul_(2.0**36).round_().long()
    expected = fixed.new_zeros(count, width).index_add_(0, codes.clamp(min=0), fixed)
    counts = torch.bincount(codes[codes >= 0], minlength=count)
    for _ in range(2):
        sums, sizes = backend.cluster_sums(x, codes, count, 36)
        assert torch.equal(sums, expected)
        assert torch.equal(sizes, counts)


def test_code_sums_of_more_than_two_to_the_31_elements() -> None:
    if torch.cuda.mem_get_info()[0] < 40 << 30:
        pytest.skip("needs 40 GB of GPU memory")
    row = clustered(1024, 32, seed=7).half()
    times = 2**31 // 32 // 1024 + 1
    codes = torch.randint(256, (1024,), device="cuda")
    once = backend.cluster_sums(row, codes, 256, 20)
    many = backend.cluster_sums(row.repeat(times, 1), codes.repeat(times), 256, 20)
    for part, whole in zip(once, many):
        assert torch.equal(times * part, whole)


def compare_within(x: Tensor, book: Tensor, offset: Tensor, slack: float) -> Tensor:
    expected = reference.within(x, book, offset, slack)
    found = backend.within(x, book, offset, slack)
    for part, wanted in zip(found, expected):
        assert torch.equal(part, wanted)
    return expected[0]


@pytest.mark.parametrize(
    ("rows", "width", "words"),
    [(300_000, 32, 256), (100_000, 16, 300), (50_000, 100, 500), (20_000, 768, 1024), (999, 3, 1)],
)
def test_within_equals_the_reference(rows: int, width: int, words: int) -> None:
    x = clustered(rows, width, seed=width)
    book = residual_books(x, [words])
    offset = torch.rand(words, device="cuda", dtype=torch.float64)
    for slack in (0.0, 0.05 * width):
        starts = compare_within(x, book, offset, slack)
    if words > 1:
        assert starts[-1] > rows


def test_within_has_the_bits_of_the_cpu() -> None:
    x, book = clustered(5000, 33, seed=10), clustered(100, 33, seed=11)
    offset = torch.rand(100, device="cuda", dtype=torch.float64)
    found = backend.within(x, book, offset, 3.0)
    expected = reference.within(x.cpu(), book.cpu(), offset.cpu(), 3.0)
    for part, wanted in zip(found, expected):
        assert torch.equal(part.cpu(), wanted)


@pytest.mark.parametrize(("rows", "clusters", "even"), [(100_000, 64, True), (400_000, 256, False)])
def test_balanced_assignment_has_the_labels_of_the_cpu(
    rows: int, clusters: int, even: bool
) -> None:
    x = clustered(rows, 32, seed=12)[None]
    words = x[:, :clusters].clone()
    fewest, most = (1, 1) if even else (0.5, 2)
    low = torch.full((clusters,), math.floor(fewest * rows / clusters))
    high = torch.full((clusters,), math.ceil(most * rows / clusters))
    _, labels, cost, bound = backend.balanced_lloyd(x, words, low, high, 1, 0.0, 0)
    _, expected, least, _ = host().balanced_lloyd(x.cpu(), words.cpu(), low, high, 1, 0.0, 0)
    assert torch.equal(labels.cpu(), expected)
    assert float(cost) == pytest.approx(float(least), rel=1e-12)
    assert float(cost - bound) <= 1e-12 * float(cost)


@pytest.mark.parametrize("width", [4, 32, 300])
def test_within_where_float64_ties_or_nearly_does(width: int) -> None:
    book = torch.randn(256, width, device="cuda")
    pairs = torch.randint(256, (2, 5000), device="cuda")
    x = (book[pairs[0]] + book[pairs[1]]) / 2
    x += 10.0 ** (-8 * torch.rand(5000, 1, device="cuda")) * torch.randn_like(x)
    x[::5] = torch.randint(-1, 2, x[::5].shape, device="cuda").float()
    book[::2] = torch.randint(-1, 2, book[::2].shape, device="cuda").float()
    offset = torch.zeros(256, device="cuda", dtype=torch.float64)
    for slack in (0.0, 1e-6, 1.0):
        compare_within(x, book, offset, slack)
        compare_within(x * 1e12, book, offset, slack * 1e12)
        compare_within(x * 1e-20, book * 1e-20, offset, slack * 1e-40)


@pytest.mark.parametrize("epsilon", [0.001, 0.003, 0.05])
@pytest.mark.parametrize(
    ("sizes", "words"), [([1024], 256), ([2, 3, 4, 5, 6, 1, 17] * 300, 256), ([5000, 3, 40], 1000)]
)
def test_sinkhorn(sizes: list[int], words: int, epsilon: float) -> None:
    x, book = clustered(sum(sizes), 32, seed=9), clustered(words, 32, seed=10)
    x[5, 3] = math.nan
    starts = torch.tensor([0, *sizes]).cumsum(0)
    found = backend.sinkhorn_codes(x, book, starts, epsilon, 20)
    again = backend.sinkhorn_codes(x, book, starts, epsilon, 20)
    assert torch.equal(found, again)
    assert torch.equal(found, reference.sinkhorn_codes(x, book, starts, epsilon, 20))
