"""Codebooks as the screens want them: scaled to fp16's range, split in two halves, padded.

With β a power of two a level, w = −βe is split into w = high + 2⁻¹¹·low + rest, where `high` and
`low` are fp16. Scores are ranked in units of β⁻²:

    β²(½‖e‖² − r·e + ½offset) = bias + (βr)·w        bias = ½‖w‖² + ½β²·offset

The `limits` are the largest norms over a level; every term of the screens' error bound is linear in
them (score.py). All of it runs on the device without waiting for it.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

# Slots of a level are padded to this, so that no tile of codewords needs a mask.
SLOTS = 128
# Bias of a slot that can't win. Finite, so that no tile ever holds inf − inf; far above any score
# (those stay below 2¹⁰² in the units above).
NEVER = 2.0**126
# Norms are rounded up to float32 with this factor.
_UP = 1 + 2.0**-20


class Layout(NamedTuple):
    """Where each level stands; integers only, so it is kept per list of sizes."""

    starts: Tensor  # [L] int64, first row in the codebooks
    sizes: Tensor  # [L] int64
    slots: Tensor  # [L] int64, first padded slot
    level: Tensor  # [ΣK] int64, the level of a codeword
    source: Tensor  # [S] int64, the codeword in a slot
    filled: Tensor  # [S] bool, whether it is there for itself or as padding


class Packed(NamedTuple):
    """S slots of width P ≥ D, and what is known of each level."""

    high: Tensor  # [S, P] float16
    low: Tensor  # [S, P] float16
    bias: Tensor  # [S] float32
    exponent: Tensor  # [L] int32, biased float32 exponent of β
    limits: Tensor  # [L, 5] float32: max ‖w‖, ‖2⁻¹¹low‖, ‖w − high‖, ‖rest‖, |bias|
    allowed: Tensor  # [ΣK] int8: finite, and the first among equals
    layout: Layout


def pack(
    codebooks: Tensor,
    sizes: list[int],
    offset: Tensor | None,
    width: int,
    allowed: Tensor | None = None,
) -> Packed:
    """codebooks [ΣK, D] float32, offset [ΣK] float64; `width` is P.

    allowed [ΣK] bool: which codewords count, all of them finite; by default those that can win.
    """
    layout = layout_of(tuple(sizes), codebooks.device)
    level = layout.level
    if allowed is None:
        allowed = distinct(codebooks, level, offset)
    words = torch.where(allowed[:, None], codebooks, 0.0)

    peak = _largest(words.abs().amax(dim=1), level, len(sizes))
    # The largest element of a level lands in [2¹⁴, 2¹⁵): 268 is 127 + 141, see score.row_exponent.
    exponent = (268 - (peak.view(torch.int32) >> 23)).clamp(1, 254)
    exponent = torch.where(peak > 0, exponent, 127)
    beta = (exponent << 23).view(torch.float32)[level]

    scaled = -words * beta[:, None]
    high = _half(scaled)
    left = scaled - high.float()
    low = _half(left * 2.0**11)
    rest = left - low.float() * 2.0**-11

    bias = 0.5 * scaled.double().square().sum(dim=1)
    if offset is not None:
        bias = bias + 0.5 * beta.double().square() * torch.where(allowed, offset, 0.0)
    sides = (scaled, low * 2.0**-11, left, rest)
    norms = [side.double().norm(dim=1) for side in sides] + [bias.abs()]
    limits = _UP * torch.stack([_largest(norm, level, len(sizes)) for norm in norms], dim=1)
    # An offset that dwarfs the codewords leaves the range of the scores: certify nothing there.
    limits = torch.where(limits < 2.0**100, limits, torch.inf)
    bias = torch.where(allowed, bias.clamp(-(2.0**100), 2.0**100), NEVER).float()

    source, filled = layout.source, layout.filled
    margin = (0, width - codebooks.shape[1])
    return Packed(
        high=pad(high[source], margin),
        low=pad(low[source], margin),
        bias=torch.where(filled, bias[source], NEVER),
        exponent=exponent,
        limits=limits.float(),
        allowed=allowed.to(torch.int8),
        layout=layout,
    )


def distinct(codebooks: Tensor, level: Tensor, offset: Tensor | None) -> Tensor:
    """Whether a codeword can win: finite, and of equal ones of its level the first of those that
    have the least offset. -> [ΣK] bool

    Equal codewords get equal hashes and so become neighbours. Two unequal ones of equal hash could
    hide a duplicate behind them; that costs time, not codes, as the exact stage breaks the tie.
    """
    allowed = codebooks.isfinite().all(dim=1)
    keys = (codebooks + 0.0).view(torch.int32).long()  # −0 + 0 = +0, and the two are equal
    keys = torch.cat([keys, level[:, None]], dim=1)
    mixed = keys * _odd_numbers(keys.shape[1], keys.device)
    hashed = (mixed ^ (mixed >> 29)).sum(dim=1)
    if offset is None:
        order = hashed.sort(stable=True).indices
    else:
        allowed = allowed & offset.isfinite()
        order = torch.where(allowed, offset, torch.inf).sort(stable=True).indices
        order = order[hashed[order].sort(stable=True).indices]
    ordered = keys[order]
    repeated = torch.zeros_like(allowed)
    repeated[order[1:]] = (ordered[1:] == ordered[:-1]).all(dim=1)
    return allowed & ~repeated


@lru_cache(maxsize=64)
def layout_of(sizes: tuple[int, ...], device: torch.device) -> Layout:
    """The places of the levels' codewords and padded slots."""
    starts = [0, *accumulate(sizes)]
    padded = [-(-size // SLOTS) * SLOTS for size in sizes]
    slots = [0, *accumulate(padded)]
    place = [torch.arange(length) for length in padded]
    source = [start + at.clamp(max=size - 1) for start, at, size in zip(starts, place, sizes)]
    filled = [at < size for at, size in zip(place, sizes)]
    level = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return Layout(
        starts=torch.tensor(starts[:-1]).to(device),
        sizes=torch.tensor(sizes).to(device),
        slots=torch.tensor(slots[:-1]).to(device),
        level=level.to(device),
        source=torch.cat(source).to(device),
        filled=torch.cat(filled).to(device),
    )


@lru_cache(maxsize=64)
def _odd_numbers(count: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    top = torch.iinfo(torch.int64).max
    return (torch.randint(top, (count,), generator=generator) | 1).to(device)


def _half(scaled: Tensor) -> Tensor:
    """float16, without the subnormals a tensor core may flush: the split's rest then holds them."""
    return torch.where(scaled.abs() < 2.0**-14, 0.0, scaled).half()


def _largest(values: Tensor, level: Tensor, levels: int) -> Tensor:
    return values.new_zeros(levels).scatter_reduce(0, level, values, "amax")
