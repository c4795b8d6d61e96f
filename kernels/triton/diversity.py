"""The diversity loss of all levels: partners drawn in two kernels, the rest K × K in torch's own.

The logits depend on the code alone. With S = E Eᵀ, its diagonal pushed out, n_k the rows of code k
that have a partner, T_kt those whose partner is t, and P = softmax(S),

    loss = −Σ_kt T_kt log P_kt / B        ∂E = (G + Gᵀ) E / B,   G_kt = n_k P_kt − T_kt

No sum depends on an order that could change: T counts, and counts are exact in float32.
20 launches where all levels have one size.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from .codebook import layout_of
from .tiles import DRAWS, GROUP_STEP

# Elements of S at once: levels of one size go together up to here.
_ELEMENTS = 1 << 24


@triton.jit
def group_kernel(
    groups,
    owner,
    starts,
    sizes,
    order,
    begin,
    rank,
    others,
    BLOCK_K: tl.constexpr,
):
    """A program a codeword: where its group begins in `order`, its place there, how many others.

    All are positions in [ΣK]; `order` lists the members of a group side by side, ascending.
    """
    k = tl.program_id(0).to(tl.int64)
    level = tl.load(owner + k)
    start = tl.load(starts + level)
    size = tl.load(sizes + level)
    own = tl.load(groups + k)
    before = tl.zeros([BLOCK_K], tl.int32)
    equal = tl.zeros([BLOCK_K], tl.int32)
    ahead = tl.zeros([BLOCK_K], tl.int32)
    for j0 in range(0, size.to(tl.int32), BLOCK_K):
        j = start + j0 + tl.arange(0, BLOCK_K)
        inside = j < start + size
        group = tl.load(groups + j, mask=inside, other=0)
        before += (inside & (group < own)).to(tl.int32)
        same = inside & (group == own)
        equal += same.to(tl.int32)
        ahead += (same & (j < k)).to(tl.int32)
    first = start + tl.sum(before, axis=0)
    place = tl.sum(ahead, axis=0)
    tl.store(begin + k, first)
    tl.store(rank + k, place)
    tl.store(others + k, tl.sum(equal, axis=0) - 1)
    tl.store(order + first + place, k)


@triton.jit
def random_bits(seed, counter):
    """SplitMix64 as a function of its counter, uint64 -> uint64 (reference/diversity.py)."""
    z = seed + (counter + 1) * 0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    return z ^ (z >> 31)


@triton.jit(do_not_specialize=["B", "L"])
def draw_kernel(
    codes,
    seed,
    starts,
    sizes,
    cells,
    order,
    begin,
    rank,
    others,
    drawn,
    B,
    L,
    BLOCK: tl.constexpr,
):
    """Adds 1 to T at (code, partner) of each row and level; T of a level begins at its cell."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = i < tl.cast(B, tl.int64) * L
    level = i % L
    code = tl.load(codes + i, mask=live, other=-1)
    live = live & (code >= 0)
    start = tl.load(starts + level)
    word = start + code
    number = tl.load(others + word, mask=live, other=0)
    live = live & (number > 0)

    key = random_bits(tl.load(seed).to(tl.uint64), level.to(tl.uint64))
    random = random_bits(key, (i // L).to(tl.uint64)) >> 32
    step = ((random * number.to(tl.uint64)) >> 32).to(tl.int64)
    turn = (tl.load(rank + word, mask=live, other=0) + 1 + step) % (number + 1)
    partner = tl.load(order + tl.load(begin + word, mask=live, other=0) + turn, mask=live, other=0)
    cell = tl.load(cells + level) + code * tl.load(sizes + level) + partner - start
    tl.atomic_add(drawn + cell, tl.full([BLOCK], 1.0, tl.float32), mask=live, sem="relaxed")


def diversity(
    codes: Tensor,
    codebooks: Tensor,
    sizes: list[int],
    groups: Tensor,
    seed: Tensor,
    with_gradient: bool,
) -> tuple[Tensor, Tensor]:
    """codes [B, L], codebooks [ΣK, D] float32, groups [ΣK] int64, seed [] int64
    -> losses [L], gradient [ΣK or 0, D] float32
    """
    drawn = _draw(codes, sizes, groups, seed)
    counted = (codes[:, 0] >= 0).sum().clamp(min=1)
    L = len(sizes)
    together = L if len(set(sizes)) == 1 and L * sizes[0] ** 2 <= _ELEMENTS else 1
    losses, gradients = [], []
    begin = cell = 0
    for level in range(0, L, together):
        K = sizes[level]
        words = codebooks[begin : begin + together * K].view(together, K, -1)
        counts = drawn[cell : cell + together * K * K].view(together, K, K)
        begin, cell = begin + together * K, cell + together * K * K
        loss, gradient = _loss_and_gradient(words, counts, with_gradient)
        losses.append(loss)
        gradients.append(gradient)
    if together == L:
        return losses[0] / -counted, gradients[0] / counted
    return torch.cat(losses) / -counted, torch.cat(gradients) / counted


def _loss_and_gradient(words: Tensor, drawn: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor]:
    """words [L, K, D], drawn [L, K, K] -> Σ T log P [L], (G + Gᵀ) E [L·K or 0, D]"""
    D = words.shape[2]
    with torch.autocast(words.device.type, enabled=False):
        logits = words @ words.mT
        # Finite, so that nothing becomes 0·inf; far enough for the weight to be 0.
        logits.diagonal(dim1=1, dim2=2).fill_(torch.finfo(logits.dtype).min / 2)
        logarithm = logits.log_softmax(dim=2)
        loss = (drawn * logarithm).sum(dim=(1, 2))
        if not with_gradient:
            return loss, words.new_empty((0, D))
        slope = logarithm.exp_() * drawn.sum(dim=2, keepdim=True) - drawn
        return loss, ((slope + slope.mT) @ words).view(-1, D)


def _draw(codes: Tensor, sizes: list[int], groups: Tensor, seed: Tensor) -> Tensor:
    """T of all levels, one after the other, [Σ K²] float32."""
    B, L = codes.shape
    device = codes.device
    layout = layout_of(tuple(sizes), device)
    drawn = torch.zeros(sum(size * size for size in sizes), device=device)
    order, begin, rank, others = torch.empty((4, len(groups)), dtype=torch.int64, device=device)
    if B == 0:
        return drawn
    with torch.cuda.device_of(codes):
        group_kernel[(len(groups),)](
            groups,
            layout.level,
            layout.starts,
            layout.sizes,
            order,
            begin,
            rank,
            others,
            BLOCK_K=GROUP_STEP,
        )
        draw_kernel[(triton.cdiv(B * L, DRAWS),)](
            codes,
            seed,
            layout.starts,
            layout.sizes,
            _cells(tuple(sizes), device),
            order,
            begin,
            rank,
            others,
            drawn,
            B,
            L,
            BLOCK=DRAWS,
        )
    return drawn


@lru_cache(maxsize=64)
def _cells(sizes: tuple[int, ...], device: torch.device) -> Tensor:
    """Where each level's K × K cells begin, [L] int64."""
    area = torch.tensor(sizes) ** 2
    return (area.cumsum(0) - area).to(device)
