"""The diversity loss of all levels: partners are drawn, then a softmax over each level's codewords.

The logits depend on the code alone. With S = E Eᵀ without its diagonal, n_k the rows of code k that
have a partner, T_kt those whose partner is t, and P = softmax(S),

    loss = Σ_k (n_k log Σ_t exp S_kt − Σ_t T_kt S_kt) / B
    ∂E = (G + Gᵀ) E / B,   G_kt = n_k P_kt − T_kt

    group_kernel, draw_kernel    T
    softmax_kernel               log Σ exp S_kt, n_k and the loss of each codeword
    total_kernel                 the loss of each level
    slope_kernel                 ∂E; S anew, which is symmetric, so that Gᵀ needs no second pass

In:  codes [B, L], groups [ΣK] int64, codebooks [ΣK, D] float32, seed [] int64.
Out: losses [L], ∂E of their sum [ΣK, D] float32.
No sum depends on an order that could change: T counts, and counts are exact in float32. Products
are float32 in value (tiles.py); sums over codewords of a loss are float64.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from .codebook import SLOTS, layout_of
from .tiles import DIVERSITY, DRAWS, GROUP_STEP, diversity_width, product_precision


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
    cells,
    drawn,
    BLOCK_K: tl.constexpr,
):
    """A program a codeword: where its group begins in `order`, its place there, how many others.
    Also empties its row of T.

    All are positions in [ΣK]; `order` lists the members of a group side by side, ascending.
    """
    k = tl.program_id(0).to(tl.int64)
    level = tl.load(owner + k)
    start = tl.load(starts + level)
    size = tl.load(sizes + level)
    own = tl.load(groups + k)
    cell = tl.load(cells + level) + (k - start) * size
    before = tl.zeros([BLOCK_K], tl.int32)
    equal = tl.zeros([BLOCK_K], tl.int32)
    ahead = tl.zeros([BLOCK_K], tl.int32)
    for j0 in range(0, size.to(tl.int32), BLOCK_K):
        j = start + j0 + tl.arange(0, BLOCK_K)
        inside = j < start + size
        tl.store(drawn + cell + j - start, tl.zeros([BLOCK_K], tl.float32), mask=inside)
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


@triton.jit
def similarities(
    codebooks,
    start,
    k,
    t,
    K,
    D,
    PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """S [BLOCK_N, BLOCK_K] of codewords k and t of a level; −inf on its diagonal and outside."""
    s = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
    for d0 in range(0, D, BLOCK_D):
        d = d0 + tl.arange(0, BLOCK_D)
        inside = (d < D)[None, :]
        place = codebooks + (start + k)[:, None] * D + d[None, :]
        e_k = tl.load(place, mask=(k < K)[:, None] & inside, other=0.0)
        place = codebooks + (start + t)[:, None] * D + d[None, :]
        e_t = tl.load(place, mask=(t < K)[:, None] & inside, other=0.0)
        s += tl.dot(e_k, tl.trans(e_t), input_precision=PRECISION)
    both = (k < K)[:, None] & (t < K)[None, :]
    return tl.where(both & (k[:, None] != t[None, :]), s, float("-inf"))


@triton.jit
def softmax_kernel(
    codebooks,
    starts,
    sizes,
    slots,
    levels,
    cells,
    drawn,
    peaks,
    logarithms,
    paired,
    row_loss,
    D,
    SLOTS: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Of each codeword: peaks, the largest S; logarithms, log Σ exp(S − peak); paired, n; its part
    of the loss, row_loss float64. A program has BLOCK_N codewords of one level."""
    slot = tl.program_id(0) * BLOCK_N
    level = tl.load(levels + slot // SLOTS)
    start = tl.load(starts + level)
    K = tl.load(sizes + level).to(tl.int32)
    k = (slot - tl.load(slots + level)).to(tl.int32) + tl.arange(0, BLOCK_N)
    highest = tl.full([BLOCK_N], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_N], tl.float64)
    number = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
    chosen = tl.zeros([BLOCK_N, BLOCK_K], tl.float64)
    for t0 in range(0, K, BLOCK_K):
        t = t0 + tl.arange(0, BLOCK_K)
        s = similarities(codebooks, start, k, t, K, D, PRECISION, BLOCK_N, BLOCK_K, BLOCK_D)
        cell = tl.load(cells + level) + k.to(tl.int64)[:, None] * K + t[None, :]
        counted = tl.load(drawn + cell, mask=(k < K)[:, None] & (t < K)[None, :], other=0.0)
        number += counted
        chosen += (counted * tl.where(counted > 0, s, 0.0)).to(tl.float64)
        higher = tl.maximum(highest, tl.max(s, axis=1))
        peak = tl.where(higher > float("-inf"), higher, 0.0)
        total *= tl.exp(highest - peak).to(tl.float64)
        total += tl.sum(tl.exp(s - peak[:, None]), axis=1).to(tl.float64)
        highest = higher
    alone = highest == float("-inf")  # the only codeword of its level
    peak = tl.where(alone, 0.0, highest)
    logarithm = tl.log(tl.where(alone, 1.0, total))
    word = start + k
    tl.store(peaks + word, peak, mask=k < K)
    tl.store(logarithms + word, logarithm.to(tl.float32), mask=k < K)
    n = tl.sum(number, axis=1)
    tl.store(paired + word, n, mask=k < K)
    loss = n.to(tl.float64) * (peak.to(tl.float64) + logarithm) - tl.sum(chosen, axis=1)
    tl.store(row_loss + word, loss, mask=k < K)


@triton.jit(do_not_specialize=["B", "L"])
def total_kernel(codes, starts, sizes, row_loss, losses, counted, B, L, BLOCK: tl.constexpr):
    """A program a level: its loss; counted [L] float32, the rows that aren't marked, at least 1."""
    level = tl.program_id(0)
    start = tl.load(starts + level)
    K = tl.load(sizes + level).to(tl.int32)
    lane = tl.arange(0, BLOCK)
    loss = tl.zeros([BLOCK], tl.float64)
    for k0 in range(0, K, BLOCK):
        loss += tl.load(row_loss + start + k0 + lane, mask=k0 + lane < K, other=0.0)
    live = tl.zeros([BLOCK], tl.int64)
    for i0 in range(0, B, BLOCK):
        i = i0 + lane.to(tl.int64)
        live += (tl.load(codes + i * L, mask=i < B, other=-1) >= 0).to(tl.int64)
    rows = tl.maximum(tl.sum(live, axis=0), 1).to(tl.float64)
    tl.store(losses + level, (tl.sum(loss, axis=0) / rows).to(tl.float32))
    tl.store(counted + level, rows.to(tl.float32))


@triton.jit
def slope_kernel(
    codebooks,
    starts,
    sizes,
    slots,
    levels,
    cells,
    drawn,
    peaks,
    logarithms,
    paired,
    counted,
    gradient,
    D,
    SLOTS: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """gradient of BLOCK_N codewords × BLOCK_D columns."""
    slot = tl.program_id(0) * BLOCK_N
    level = tl.load(levels + slot // SLOTS)
    start = tl.load(starts + level)
    K = tl.load(sizes + level).to(tl.int32)
    k = (slot - tl.load(slots + level)).to(tl.int32) + tl.arange(0, BLOCK_N)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    cell = tl.load(cells + level)
    peak = tl.load(peaks + start + k, mask=k < K, other=0.0)
    logarithm = tl.load(logarithms + start + k, mask=k < K, other=0.0)
    number = tl.load(paired + start + k, mask=k < K, other=0.0)
    out = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    for t0 in range(0, K, BLOCK_K):
        t = t0 + tl.arange(0, BLOCK_K)
        s = similarities(codebooks, start, k, t, K, D, PRECISION, BLOCK_N, BLOCK_K, BLOCK_D)
        both = (k < K)[:, None] & (t < K)[None, :]
        own = tl.load(drawn + cell + k.to(tl.int64)[:, None] * K + t[None, :], mask=both, other=0.0)
        its = tl.load(drawn + cell + t.to(tl.int64)[None, :] * K + k[:, None], mask=both, other=0.0)
        slope = number[:, None] * tl.exp(s - peak[:, None] - logarithm[:, None]) - own
        peak_t = tl.load(peaks + start + t, mask=t < K, other=0.0)
        logarithm_t = tl.load(logarithms + start + t, mask=t < K, other=0.0)
        number_t = tl.load(paired + start + t, mask=t < K, other=0.0)
        slope += number_t[None, :] * tl.exp(s - peak_t[None, :] - logarithm_t[None, :]) - its
        place = codebooks + (start + t)[:, None] * D + d[None, :]
        e_t = tl.load(place, mask=(t < K)[:, None] & (d < D)[None, :], other=0.0)
        out += tl.dot(slope, e_t, input_precision=PRECISION)
    out /= tl.load(counted + level)
    place = gradient + (start + k)[:, None] * D + d[None, :]
    tl.store(place, out, mask=(k < K)[:, None] & (d < D)[None, :])


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
    (words, D), L, device = codebooks.shape, len(sizes), codebooks.device
    layout, cells = layout_of(tuple(sizes), device), _cells(tuple(sizes), device)
    drawn = _draw(codes, sizes, groups, seed)
    peaks, logarithms, paired = torch.empty((3, words), dtype=torch.float32, device=device)
    row_loss = torch.empty(words, dtype=torch.float64, device=device)
    losses, counted = torch.empty(L, device=device), torch.empty(L, device=device)
    gradient = torch.empty_like(codebooks if with_gradient else codebooks[:0])
    where = (layout.starts, layout.sizes, layout.slots, layout.groups, cells)
    options = _options(D, device)
    blocks = SLOTS * len(layout.groups) // DIVERSITY.rows
    with torch.cuda.device_of(codebooks):
        softmax_kernel[(blocks,)](
            codebooks, *where, drawn, peaks, logarithms, paired, row_loss, D, **options
        )
        total_kernel[(L,)](
            codes, *where[:2], row_loss, losses, counted, len(codes), L, BLOCK=GROUP_STEP
        )
        if with_gradient:
            slope_kernel[blocks, triton.cdiv(D, diversity_width(D))](
                codebooks,
                *where,
                drawn,
                peaks,
                logarithms,
                paired,
                counted,
                gradient,
                D,
                **options,
            )
    return losses, gradient


def _options(D: int, device: torch.device) -> dict[str, int | str]:
    return {
        "SLOTS": SLOTS,
        "PRECISION": product_precision(device),
        "BLOCK_N": DIVERSITY.rows,
        "BLOCK_K": DIVERSITY.words,
        "BLOCK_D": diversity_width(D),
        "num_warps": DIVERSITY.warps,
        "num_stages": DIVERSITY.stages,
    }


def _draw(codes: Tensor, sizes: list[int], groups: Tensor, seed: Tensor) -> Tensor:
    """T of all levels, one after the other, [Σ K²] float32."""
    B, L = codes.shape
    device = codes.device
    layout, cells = layout_of(tuple(sizes), device), _cells(tuple(sizes), device)
    drawn = torch.empty(sum(size * size for size in sizes), device=device)
    order, begin, rank, others = torch.empty((4, len(groups)), dtype=torch.int64, device=device)
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
            cells,
            drawn,
            BLOCK_K=GROUP_STEP,
        )
        if B == 0:
            return drawn
        draw_kernel[(triton.cdiv(B * L, DRAWS),)](
            codes,
            seed,
            layout.starts,
            layout.sizes,
            cells,
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
    """The first of each level's K × K cells, [L] int64."""
    area = torch.tensor(sizes) ** 2
    return (area.cumsum(0) - area).to(device)
