"""Every CPU backend maps as LETTER's public code where that is finite, and as defined elsewhere."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from letter_fast import kernels
from letter_fast.kernels import cpp
from tests.support import oracle
from tests.support.cpu_backends import same_bits


def one_group(
    backend: kernels.Backend, x: Tensor, book: Tensor, epsilon: float = 0.003, sweeps: int = 50
) -> Tensor:
    return backend.sinkhorn_codes(x, book, torch.tensor([0, len(x)]), epsilon, sweeps)


def check(
    backend: kernels.Backend, x: Tensor, book: Tensor, epsilon: float = 0.003, sweeps: int = 50
) -> None:
    """The code is where log Q is largest in its row, up to what rounding makes of it."""
    codes = one_group(backend, x, book, epsilon, sweeps)
    plan, error = oracle.log_sinkhorn(x, book, epsilon, sweeps)
    assert codes.shape == (len(x),)
    assert codes.dtype == torch.int64
    for values, code in zip(plan, codes.tolist()):
        assert 0 <= code < len(book)
        assert values[code] >= values.max() - error


@pytest.mark.parametrize("epsilon", [0.003, 0.05, 1.0])
@pytest.mark.parametrize(("rows", "words"), [(1, 16), (5, 7), (100, 16), (130, 1), (300, 65)])
def test_equals_the_public_code(
    backend: kernels.Backend, rows: int, words: int, epsilon: float
) -> None:
    x, book = oracle.clustered(rows, 6, 4, seed=1), oracle.clustered(words, 6, 4, seed=2)
    plan = oracle.public_sinkhorn(x, book, epsilon, 50)
    assert bool(plan.isfinite().all())
    assert torch.equal(one_group(backend, x, book, epsilon), plan.argmax(dim=1))


@pytest.mark.parametrize("sweeps", [1, 2, 3])
def test_rows_come_before_columns(backend: kernels.Backend, sweeps: int) -> None:
    x, book = oracle.clustered(40, 6, 4, seed=3), oracle.clustered(9, 6, 4, seed=4)
    plan = oracle.public_sinkhorn(x, book, 0.01, sweeps)
    assert torch.equal(one_group(backend, x, book, 0.01, sweeps), plan.argmax(dim=1))


# At 0.00294 the widest row just exceeds what the scaling form takes.
@pytest.mark.parametrize("epsilon", [1e-6, 1e-4, 0.002, 0.00294, 0.00295, 0.1, 1e3])
@pytest.mark.parametrize("width", [1, 3, 70])
def test_small_and_large_epsilon(backend: kernels.Backend, epsilon: float, width: int) -> None:
    x, book = oracle.clustered(37, width, 4, seed=5), oracle.clustered(19, width, 4, seed=6)
    check(backend, x, book, epsilon)


@pytest.mark.parametrize("epsilon", [1e-5, 0.0029, 0.003, 0.01])
def test_codewords_that_nobody_is_near_to(backend: kernels.Backend, epsilon: float) -> None:
    # Their columns are exp(−2/ε) in every row, and each must still get its share.
    x, book = oracle.clustered(40, 2, 1, seed=7), oracle.clustered(12, 2, 1, seed=8)
    book[3:] *= 1e-3
    book[:3] += 1e4
    check(backend, x, book, epsilon)
    check(backend, torch.cat([x, x[:2] + 1e4, x[:1] - 1e4]), book, epsilon)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-4, 1e15, 1e30])
def test_any_scale(backend: kernels.Backend, scale: float) -> None:
    x, book = oracle.clustered(9, 3, 2, seed=9) * scale, oracle.clustered(5, 3, 2, seed=10) * scale
    for epsilon in (1e-6, 0.003, 1.0):
        check(backend, x, book, epsilon)


@pytest.mark.parametrize("epsilon", [0.001, 0.003])
def test_equal_entries_go_to_the_lowest(backend: kernels.Backend, epsilon: float) -> None:
    x, book = oracle.clustered(30, 5, 4, seed=11), oracle.clustered(6, 5, 4, seed=12)
    assert int(one_group(backend, x, torch.cat([book, book]), epsilon).max()) < 6
    for rows in (1, 2):
        assert one_group(backend, x[:1].expand(rows, -1), book, epsilon).tolist() == [0] * rows


def test_few_rows_take_the_first_column_that_is_theirs(backend: kernels.Backend) -> None:
    # A row of 2 to 6 has many columns to itself, where Q is as good as 1.
    differing = rows = own = 0
    book = oracle.clustered(256, 8, 40, seed=19)
    for group in oracle.clustered(400, 8, 40, seed=20).split([2, 3, 4, 5, 6] * 20):
        plan = oracle.public_sinkhorn(group, book, 0.003, 50)
        own += int((plan * 256 / len(group) > 1 - 1e-15).sum())
        codes = one_group(backend, group, book)
        differing += int((codes != plan.argmax(dim=1)).sum())
        rows += len(group)
    assert own > 10 * rows
    assert differing <= rows // 20  # where 1 − Q is about one rounding


def test_groups_equal_each_group_alone(backend: kernels.Backend) -> None:
    sizes = [3, 0, 1, 33, 2, 290, 0, 64, 5]
    starts = torch.tensor([0, *sizes]).cumsum(0)
    x, book = oracle.clustered(sum(sizes), 7, 9, seed=13), oracle.clustered(21, 7, 9, seed=14)
    for epsilon in (0.001, 0.003):
        codes = backend.sinkhorn_codes(x, book, starts, epsilon, 20)
        alone = [one_group(backend, part, book, epsilon, 20) for part in x.split(sizes)]
        assert torch.equal(codes, torch.cat(alone))


def test_nonfinite_rows_and_codewords_take_no_part(backend: kernels.Backend) -> None:
    x, book = oracle.clustered(50, 4, 5, seed=15), oracle.clustered(11, 4, 5, seed=16)
    starts = torch.tensor([0, 2, 20, 50])
    bad, good = [0, 1, 7, 49], [k for k in range(11) if k not in (0, 6)]
    rows = [i for i in range(50) if i not in bad]
    expected = backend.sinkhorn_codes(x[rows], book[good], torch.tensor([0, 0, 17, 46]), 0.003, 9)
    x[bad, 2] = torch.tensor([torch.nan, torch.inf, -torch.inf, torch.nan])
    book[0], book[6, 1] = torch.nan, torch.inf
    codes = backend.sinkhorn_codes(x, book, starts, 0.003, 9)
    assert codes[bad].tolist() == [-1] * 4
    assert torch.equal(codes[rows], torch.tensor(good)[expected])
    none = backend.sinkhorn_codes(x, torch.full((3, 4), torch.nan), starts, 0.003, 9)
    assert none.tolist() == [-1] * 50


def test_half_precision_and_strides(backend: kernels.Backend) -> None:
    x, book = oracle.clustered(60, 10, 6, seed=17), oracle.clustered(13, 10, 6, seed=18)
    for dtype in (torch.float16, torch.bfloat16):
        low = x.to(dtype)
        assert torch.equal(one_group(backend, low, book), one_group(backend, low.float(), book))
    assert torch.equal(one_group(backend, x.T.contiguous().T, book), one_group(backend, x, book))
    part = x[::2, 1::3]
    words = book[:, 1::3].contiguous()
    assert torch.equal(
        one_group(backend, part, words), one_group(backend, part.contiguous(), words)
    )


def test_no_rows(backend: kernels.Backend) -> None:
    for starts in ([0], [0, 0], [0, 0, 0]):
        codes = backend.sinkhorn_codes(
            torch.empty(0, 4), torch.ones(5, 4), torch.tensor(starts), 1.0, 1
        )
        assert codes.shape == (0,)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 50),
    st.floats(-6, 3),
    st.sampled_from([1e-30, 1e-5, 1.0, 1e12, 1e30]),
    st.data(),
)
@example(1, 50, -6.0, 1.0, None)
def test_any_finite_input(
    width: int, sweeps: int, power: float, scale: float, data: st.DataObject | None
) -> None:
    if data is None:  # one row, one codeword
        x, book = torch.ones(1, width), torch.ones(1, width)
    else:
        value = st.integers(-4, 4).map(lambda n: n / 2)
        word = st.lists(value, min_size=width, max_size=width)
        x = torch.tensor(data.draw(st.lists(word, min_size=1, max_size=9))) * scale
        book = torch.tensor(data.draw(st.lists(word, min_size=1, max_size=9))) * scale
    for name in ("reference", "cpp"):
        with kernels.use_backend(name):
            check(kernels.pick(torch.device("cpu")), x, book, 10.0**power, sweeps)


def hard(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Groups of every size, and codewords close enough together that small errors would show."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-8, 9, (3000, 5), generator=generator) / 8
    book = torch.randint(-8, 9, (90, 5), generator=generator) / 8
    starts = torch.tensor([0, 3, 10, 1000, 1001, 1200, 3000])
    return x, book * (1 + 1e-6 * torch.randn(90, 1, generator=generator)), starts


@pytest.mark.parametrize("epsilon", [0.001, 0.003, 0.3])
def test_the_same_bits_whatever_computes_them(epsilon: float) -> None:
    x, book, starts = hard(seed=1)
    same_bits(lambda: [cpp.sinkhorn_codes(x, book, starts, epsilon, 12)])
