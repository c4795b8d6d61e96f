"""Keys, by which the screens find a row's two smallest scores (kernels/triton/score.py)."""

from __future__ import annotations

import os
import sys
from unittest import mock

import pytest
import torch
from torch import Tensor

from tests.support import oracle
from tests.support.triton_backend import DEVICE, backend

# isort: split
import triton
import triton.language as tl

scores, narrow, wide = (
    sys.modules[f"{backend.__name__}.{name}"] for name in ("score", "screen", "screen_wide")
)
pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.skipif(DEVICE.type == "cuda", reason="what it tests is interpreted"),
]
NEVER = 2.0**126


def two_smallest(
    score,
    largest,
    limits,
    reach,
    found,
    named,
    K,
    N: tl.constexpr,
    B: tl.constexpr,
    LANES: tl.constexpr,
    NEAR: tl.constexpr,
):
    row = tl.arange(0, N)
    bits = scores.index_bits(K, B)
    bound = tl.load(largest + row)
    unit = scores.key_unit(0.0 * bound, bound, bound, bound, limits, bits)
    first = tl.zeros([N, LANES], tl.uint32)
    second = tl.zeros([N, LANES], tl.uint32)
    for k in range(0, K, B):
        tile = tl.load(score + row[:, None] * K + k + tl.arange(0, B)[None, :])
        first, second = scores.keep_two(first, second, tile, k, unit, bits, NEAR)
    one, two, code = scores.best_two(first, second, bits, B, NEAR)
    sure = scores.certified(one, two, unit, 0.0 * unit)
    width = tl.load(reach + row)
    names = scores.named(first, second, one, unit, width, bits, B, NEAR)
    tl.store(named + row[:, None] * LANES + tl.arange(0, LANES)[None, :], names)
    gap = (one - two).to(tl.float32) * unit
    for place, what in enumerate((code, gap, sure, unit)):
        tl.store(found + place * N + row, what.to(tl.float32))


with mock.patch.dict(os.environ, TRITON_INTERPRET="1"):
    two_smallest_kernel = triton.jit(two_smallest)


def found(score: Tensor, largest: Tensor, lanes: int, near: bool) -> tuple[Tensor, ...]:
    """Code, gap to the next, whether it is certified, and unit, each [N]."""
    return tuple(searched(score, largest, torch.zeros(16), lanes, near)[0])


def searched(
    score: Tensor, largest: Tensor, reach: Tensor, lanes: int, near: bool
) -> tuple[Tensor, Tensor]:
    """The best two [4, N], and the codewords named within 2·reach of the best [N, lanes]."""
    N, K = score.shape
    out, named = torch.empty((4, N)), torch.empty((N, lanes), dtype=torch.int32)
    two_smallest_kernel[(1,)](
        score, largest, torch.zeros(5), reach, out, named, K, N, 64, lanes, near
    )
    return out, named


@pytest.mark.parametrize(("lanes", "near"), [(8, False), (16, False), (32, False), (2, True)])
@pytest.mark.parametrize("K", [64, 640, 4096])
def test_the_two_smallest_scores(K: int, lanes: int, near: bool) -> None:
    generator = torch.Generator().manual_seed(K)
    largest = 2.0 ** torch.linspace(-70, 70, 16)
    score = (2 * torch.rand(16, K, generator=generator) - 1) * largest[:, None]
    score[:, 1::7] = NEVER
    code, gap, sure, unit = found(score, largest, lanes, near)
    smallest, order = score.double().sort(dim=1)
    exact = smallest[:, 1] - smallest[:, 0]
    assert (unit <= largest * 2.0**-16).all()
    assert (gap.double() <= exact + unit).all()
    assert (gap.double() >= exact - 2 * unit).all()
    assert sure.bool().any()
    assert torch.equal(code[sure.bool()].long(), order[sure.bool(), 0])


@pytest.mark.parametrize(("lanes", "near"), [(8, False), (16, False), (2, True)])
def test_who_may_be_nearest_is_named(lanes: int, near: bool) -> None:
    """All within reach are, or the row says that it doesn't know them all; and few others."""
    generator = torch.Generator().manual_seed(lanes)
    score = 2 * torch.rand(16, 640, generator=generator) - 1
    score[:, 1::7] = NEVER
    reach = torch.linspace(1e-4, 5e-3, 16)
    out, named = searched(score, torch.ones(16), reach, lanes, near)
    unit = out[3]
    gap = score - score.amin(dim=1, keepdim=True)
    alone = 0
    for row in range(16):
        if named[row, 0] == -2:
            assert (named[row] == -2).all()
            continue
        alone += 1
        words = set(named[row].tolist()) - {-1}
        assert words >= set((gap[row] <= 2 * reach[row]).nonzero().flatten().tolist())
        wide = 2 * reach[row] + 3 * unit[row]
        assert words <= set((gap[row] <= wide).nonzero().flatten().tolist())
    assert 3 <= alone < 16
    score[:] = NEVER
    assert (searched(score, torch.ones(16), reach, lanes, near)[1] == -2).all()


@pytest.mark.parametrize(("lanes", "near"), [(8, False), (16, False), (2, True)])
def test_equal_scores_are_not_certified(lanes: int, near: bool) -> None:
    """In one lane, in two, in one tile or two."""
    score = torch.zeros(16, 128)
    for row, other in enumerate((1, 2, 7, 8, 9, 16, 31, 32, 40, 63, 64, 65, 72, 80, 96, 127)):
        score[row, [0, other]] = -1.0
    _, gap, sure, _ = found(score, torch.ones(16), lanes, near)
    assert gap.tolist() == [0] * 16
    assert not sure.any()


def test_no_codeword_and_scores_out_of_reach_are_not_certified() -> None:
    score = torch.randn(16, 64)
    score[0] = NEVER
    largest = torch.full((16,), 8.0)
    largest[1:4] = torch.tensor([float("inf"), float("nan"), 2.0**100])
    _, _, sure, _ = found(score, largest, 8, False)
    assert not sure[:4].any()
    assert sure[4:].all()
    score[4, 1:] = NEVER
    code, _, sure, _ = found(score, largest, 8, False)
    assert (code[4], sure[4]) == (0, 1)


@pytest.mark.parametrize(("module", "width"), [(narrow, 20), (wide, 130)])
def test_more_codewords_than_keys_tell_apart(module: object, width: int) -> None:
    books = [oracle.clustered(200, width, 4, seed=1), oracle.clustered(90, width, 4, seed=2)]
    x = torch.cat([books[0][40:60], (books[0][:8] + books[0][100:108]) / 2])
    expected, _ = oracle.residual_search(x, books)
    with mock.patch.object(module, "CHUNK", tl.constexpr(64)):
        codes, _, _, _ = backend.residual_search(x, torch.cat(books), [200, 90])
    assert codes.tolist() == expected
