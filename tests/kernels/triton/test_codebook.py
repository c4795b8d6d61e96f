"""Packed codebooks against the same in plain PyTorch, bit for bit."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from torch import Tensor

from tests.support.triton_backend import DEVICE, backend

assert backend
packing = sys.modules["letter_fast.kernels.triton.codebook"]
UP = 1 + 2.0**-20

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def first_of_equals(book: Tensor, offset: Tensor, distinct: bool) -> Tensor:
    """The codewords of one level that may win, [K] bool."""
    finite = book.isfinite().all(dim=1) & offset.isfinite()
    if not distinct:
        return finite
    allowed = finite.clone()
    for k, word in enumerate(book):
        for j, other in enumerate(book):
            ahead = (float(offset[j]), j) < (float(offset[k]), k)
            if finite[j] and ahead and bool((word == other).all()):
                allowed[k] = False
    return allowed


def half(v: Tensor) -> Tensor:
    return torch.where(v.abs() < 2.0**-14, 0.0, v).half()


def packed_level(book: Tensor, offset: Tensor, width: int, distinct: bool) -> dict[str, Tensor]:
    allowed = first_of_equals(book, offset, distinct)
    words = torch.where(allowed[:, None], book, 0.0)
    peak = words.abs().max()
    exponent = (268 - (peak.view(torch.int32) >> 23)).clamp(1, 254) if peak > 0 else 127
    beta = 2.0 ** (float(exponent) - 127)
    w = -words * beta
    high = half(w)
    left = w - high.float()
    low = half(left * 2.0**11)
    rest = left - low.float() * 2.0**-11
    bias = 0.5 * w.double().square().sum(dim=1)
    bias += 0.5 * beta**2 * torch.where(allowed, offset, 0.0)
    sides = (w, low.float() * 2.0**-11, left, rest)
    norms = [side.double().norm(dim=1).max() for side in sides] + [bias.abs().max()]
    limits = UP * torch.stack(norms)
    bias = torch.where(allowed, bias.clamp(-(2.0**100), 2.0**100), packing.NEVER).float()
    slots = -(-len(book) // packing.SLOTS) * packing.SLOTS
    source = torch.arange(slots).clamp(max=len(book) - 1)
    columns = (0, width - book.shape[1])
    return {
        "high": torch.nn.functional.pad(high[source], columns),
        "low": torch.nn.functional.pad(low[source], columns),
        "bias": torch.where(torch.arange(slots) < len(book), bias[source], packing.NEVER),
        "exponent": torch.as_tensor(exponent, dtype=torch.int32).reshape(1),
        "limits": torch.where(limits < 2.0**100, limits, math.inf).float()[None],
        "allowed": allowed.to(torch.int8),
    }


def awkward(sizes: list[int], width: int, seed: int) -> tuple[Tensor, Tensor]:
    """Levels of very unequal scale, with duplicates, both zeros, and what isn't finite."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.tensor([10.0 ** (6 * level - 6) for level in range(len(sizes))])
    scales = scales.repeat_interleave(torch.tensor(sizes))
    book = torch.randn((sum(sizes), width), generator=generator) * scales[:, None]
    offset = torch.randint(-2, 3, (len(book),), generator=generator).double()
    if sizes[0] >= 20:
        book[3] = book[8] = book[1]
        book[4], book[5], book[6] = 0.0, -0.0, 1e-42
        book[7, 0], book[9, -1] = math.nan, math.inf
        offset[11], offset[12], offset[13], offset[1] = math.inf, math.nan, 1e200, 5.0
    return book, offset


@pytest.mark.parametrize("distinct", [True, False])
@pytest.mark.parametrize("shifted", [True, False])
@pytest.mark.parametrize(
    ("sizes", "width"), [([20, 130, 1], 7), ([40], 128), ([1, 1], 1), ([30, 2], 200)]
)
def test_the_same_bits_as_plain_pytorch(
    sizes: list[int], width: int, shifted: bool, distinct: bool
) -> None:
    book, offset = awkward(sizes, width, seed=width)
    if not shifted:
        offset = torch.zeros_like(offset)
    P = backend_width(width)
    packed = packing.pack(
        book.to(DEVICE), sizes, offset.to(DEVICE) if shifted else None, P, distinct
    )
    levels = [
        packed_level(part, shift, P, distinct)
        for part, shift in zip(book.split(sizes), offset.split(sizes))
    ]
    for name in levels[0]:
        expected = torch.cat([level[name] for level in levels])
        assert torch.equal(getattr(packed, name).cpu(), expected), name


def backend_width(width: int) -> int:
    return int(sys.modules["letter_fast.kernels.triton.tiles"].padded_width(width))


def test_only_equal_codewords_are_duplicates() -> None:
    """Not those that hold the same numbers in another order."""
    book = torch.tensor([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]])
    packed = packing.pack(book.to(DEVICE), [3], None, 16)
    assert packed.allowed.tolist() == [1, 1, 0]


def test_codebooks_changed_in_place_are_packed_anew() -> None:
    book = torch.randn((20, 8), generator=torch.Generator().manual_seed(1)).to(DEVICE)
    x = book[:4].clone()
    assert backend.residual_search(x, book, [20])[0].flatten().tolist() == [0, 1, 2, 3]
    book.data.copy_(book.flip(0))  # which leaves the version counter as it was
    assert backend.residual_search(x, book, [20])[0].flatten().tolist() == [19, 18, 17, 16]
