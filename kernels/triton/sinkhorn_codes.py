"""The uniform mapping of each group of rows, as kernels/reference/sinkhorn_codes.py defines it.

    A = (min_k d − d)/(h·ε);  f = −ln Σ_k exp(A + g), g = −ln Σ_i exp(A + f) in turn

In two forms, which kernels/cpp/sinkhorn_codes.cpp derives. Where 2/ε ≤ REACH, sweeps are sums of
products with G = exp A, u = exp f and v = exp g; otherwise (LOG) they are as above. All in float64:
the codes are the reference's but for rounding, which float32, with |A| up to 2/ε = 667 and so an
error of 4e-5 a sweep, can't promise. It costs little: the first form has no exponentials in its
sweeps, 4 flops an element of 8 bytes, which is memory's business even where float64 runs at 1/64 of
float32's rate. The log form is compute-bound there.

Groups whose tile [rows, K] fits in registers take a program each, which does all sweeps. The larger
ones go together, in slabs of PLAN_BYTES: A or G in memory, and two launches a sweep,

    sweep_kernel    a block of rows of one group: u or f, and its part of w, the columns' sums
    combine_kernel  the columns of a group: w of the parts, in the order of the blocks

Range and arg-max, once a slab, are torch's.

In:  x [N, D] any strides; words [D, K] float32, the codebook by columns; allowed [K] int8: finite;
     starts [G + 1] int64.
Out: codes [N] int64; −1 for a row with NaN or Inf, which is no part of its group.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .tiles import (
    PLAN_BYTES,
    SINKHORN_COMBINE,
    SINKHORN_ELEMENTS,
    SINKHORN_ROWS,
    SINKHORN_TILE,
    SINKHORN_WARP,
)

# Largest 2/ε of the form with products, and its largest v.
REACH = 680.0
_TOP = tl.constexpr(2.0**480)


@triton.jit
def squared_distances(
    x, stride_n, stride_d, row, inside, words, k, K, D, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr
):
    """d [BLOCK_N, BLOCK_K] float64 of rows `row` and codewords k, and which rows are finite."""
    d = tl.zeros([BLOCK_N, BLOCK_K], tl.float64)
    finite = inside
    for j in range(D):
        at = tl.cast(j, tl.int64)
        part = tl.load(x + row * stride_n + at * stride_d, mask=inside, other=0.0).to(tl.float32)
        finite = finite & (tl.abs(part) < float("inf"))
        word = tl.load(words + at * K + k, mask=k < K, other=0.0)
        gap = part.to(tl.float64)[:, None] - word.to(tl.float64)[None, :]
        d += gap * gap
    return d, finite


@triton.jit(do_not_specialize=["sweeps"])
def group_kernel(
    x,
    stride_n,
    stride_d,
    words,
    allowed,
    starts,
    groups,
    codes,
    K,
    D,
    epsilon,
    sweeps,
    LOG: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """All of a group of at most BLOCK_N rows. groups: which ones; epsilon [1] float64."""
    group = tl.load(groups + tl.program_id(0))
    begin = tl.load(starts + group)
    row = begin + tl.arange(0, BLOCK_N)
    inside = row < tl.load(starts + group + 1)
    k = tl.arange(0, BLOCK_K)
    column = tl.load(allowed + k, mask=k < K, other=0) != 0
    d, live = squared_distances(
        x, stride_n, stride_d, row, inside, words, k, K, D, BLOCK_N, BLOCK_K
    )

    taken = live[:, None] & column[None, :]
    least = tl.min(tl.where(taken, d, float("inf")), axis=1)
    lowest = tl.min(least, axis=0)
    highest = tl.max(tl.max(tl.where(taken, d, 0.0), axis=1), axis=0)
    inverse = 1.0 / ((highest - (highest + lowest) / 2 + 1e-5) * tl.load(epsilon))
    a = tl.where(taken, (least[:, None] - d) * inverse, float("-inf"))

    if LOG:
        f = tl.zeros([BLOCK_N], tl.float64)
        g = tl.zeros([BLOCK_K], tl.float64)
        peak = g
        w = g
        for _ in range(sweeps):
            a_g = a + g[None, :]
            most = tl.where(live, tl.max(a_g, axis=1), 0.0)
            f = -most - tl.log(tl.sum(tl.exp(a_g - most[:, None]), axis=1))
            f = tl.where(live, f, 0.0)
            a_f = a + f[:, None]
            peak = tl.where(column, tl.max(a_f, axis=0), 0.0)
            w = tl.where(column, tl.sum(tl.exp(a_f - peak[None, :]), axis=0), 1.0)
            g = -peak - tl.log(w)
        q = tl.exp(a + f[:, None] - peak[None, :]) / w[None, :]
    else:
        plan = tl.exp(a)
        u = tl.zeros([BLOCK_N], tl.float64)
        w = tl.where(column, 1.0, float("inf")).to(tl.float64)
        for _ in range(sweeps):
            v = _TOP * tl.min(w, axis=0) / w
            u = tl.where(live, _TOP / tl.sum(plan * v[None, :], axis=1), 0.0)
            w = tl.where(column, tl.sum(plan * u[:, None], axis=0), float("inf"))
        q = plan * u[:, None] / w[None, :]
    best = tl.max(q, axis=1)
    found = tl.where((q == best[:, None]) & column[None, :], k[None, :], K)
    code = tl.min(found, axis=1).to(tl.int64)
    tl.store(codes + row, tl.where(live & (code < K), code, -1), mask=inside)


@triton.jit
def distance_kernel(
    x,
    stride_n,
    stride_d,
    words,
    allowed,
    blocks,
    plan,
    K,
    D,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """plan [rows, K] float64: d; inf where the row or the codeword isn't finite."""
    block = blocks + tl.program_id(0).to(tl.int64) * 4
    i = tl.arange(0, BLOCK_N)
    inside = i < tl.load(block + 2)
    k = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    row = tl.load(block) + i
    d, live = squared_distances(
        x, stride_n, stride_d, row, inside, words, k, K, D, BLOCK_N, BLOCK_K
    )
    column = tl.load(allowed + k, mask=k < K, other=0) != 0
    d = tl.where(live[:, None] & column[None, :], d, float("inf"))
    place = (tl.load(block + 1) + i)[:, None] * K + k[None, :]
    tl.store(plan + place, d, mask=inside[:, None] & (k < K)[None, :])


@triton.jit
def sweep_kernel(
    plan,
    blocks,
    columns,
    factors,
    parts,
    peaks,
    K,
    LOG: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """factors [rows]: u, with LOG f. parts [blocks, K]: Σ u_i G_ik.

    With LOG Σ exp(A_ik + f_i − peak_k), peaks [blocks, K].
    columns [groups, K]: w, 0 for a codeword that isn't finite; with LOG g.
    """
    number = tl.program_id(0).to(tl.int64)
    block = blocks + number * 4
    i = tl.arange(0, BLOCK_N)
    inside = i < tl.load(block + 2)
    place = tl.load(block + 1) + i
    group_columns = columns + tl.load(block + 3) * K
    lane = tl.arange(0, BLOCK_K)

    most = tl.full([BLOCK_N], float("-inf"), tl.float64)
    top = tl.full([], 1.0, tl.float64)
    if LOG:
        for k0 in range(0, K, BLOCK_K):
            k = k0 + lane
            mask = inside[:, None] & (k < K)[None, :]
            a = tl.load(plan + place[:, None] * K + k[None, :], mask=mask, other=float("-inf"))
            g = tl.load(group_columns + k, mask=k < K, other=0.0)
            most = tl.maximum(most, tl.max(a + g[None, :], axis=1))
        most = tl.where(most > float("-inf"), most, 0.0)  # a row that isn't finite
    else:
        least = tl.full([BLOCK_K], float("inf"), tl.float64)
        for k0 in range(0, K, BLOCK_K):
            w = tl.load(group_columns + k0 + lane, mask=k0 + lane < K, other=0.0)
            least = tl.minimum(least, tl.where(w > 0, w, float("inf")))
        top = tl.min(least, axis=0) * _TOP

    s = tl.zeros([BLOCK_N], tl.float64)
    for k0 in range(0, K, BLOCK_K):
        k = k0 + lane
        mask = inside[:, None] & (k < K)[None, :]
        other = float("-inf") if LOG else 0.0
        tile = tl.load(plan + place[:, None] * K + k[None, :], mask=mask, other=other)
        column = tl.load(group_columns + k, mask=k < K, other=0.0)
        if LOG:
            s += tl.sum(tl.exp(tile + column[None, :] - most[:, None]), axis=1)
        else:
            s += tl.sum(tile * tl.where(column > 0, top / column, 0.0)[None, :], axis=1)
    if LOG:
        factor = tl.where(s > 0, -most - tl.log(s), 0.0)
    else:
        factor = tl.where(s > 0, _TOP / s, 0.0)
    tl.store(factors + place, factor, mask=inside)

    for k0 in range(0, K, BLOCK_K):
        k = k0 + lane
        mask = inside[:, None] & (k < K)[None, :]
        other = float("-inf") if LOG else 0.0
        tile = tl.load(plan + place[:, None] * K + k[None, :], mask=mask, other=other)
        if LOG:
            tile += factor[:, None]
            peak = tl.max(tile, axis=0)
            tl.store(peaks + number * K + k, peak, mask=k < K)
            tile = tl.exp(tile - tl.where(peak > float("-inf"), peak, 0.0)[None, :])
        else:
            tile *= factor[:, None]
        tl.store(parts + number * K + k, tl.sum(tile, axis=0), mask=k < K)


@triton.jit
def combine_kernel(
    parts,
    peaks,
    borders,
    columns,
    last,
    K,
    LOG: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """columns [groups, K]: w, with LOG g; last [2, groups, K]: peak and w that g comes of.

    borders [groups + 1]: the blocks of each group.
    """
    group = tl.program_id(0).to(tl.int64)
    k = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    place = group * K + k
    begin = tl.load(borders + group)
    end = tl.load(borders + group + 1)
    peak = tl.full([BLOCK_K], float("-inf"), tl.float64)
    if LOG:
        for first in range(begin, end, BLOCK_N):
            block = first + tl.arange(0, BLOCK_N)
            mask = (block < end)[:, None] & (k < K)[None, :]
            at = block[:, None] * K + k[None, :]
            part = tl.load(peaks + at, mask=mask, other=float("-inf"))
            peak = tl.maximum(peak, tl.max(part, axis=0))
        peak = tl.where(peak > float("-inf"), peak, 0.0)
    w = tl.zeros([BLOCK_K], tl.float64)
    for first in range(begin, end, BLOCK_N):
        block = first + tl.arange(0, BLOCK_N)
        mask = (block < end)[:, None] & (k < K)[None, :]
        at = block[:, None] * K + k[None, :]
        part = tl.load(parts + at, mask=mask, other=0.0)
        if LOG:
            part *= tl.exp(tl.load(peaks + at, mask=mask, other=float("-inf")) - peak[None, :])
        w += tl.sum(part, axis=0)
    if LOG:
        w = tl.where(w > 0, w, 1.0)
        tl.store(last + place, peak, mask=k < K)
        tl.store(last + tl.num_programs(0).to(tl.int64) * K + place, w, mask=k < K)
        w = -peak - tl.log(w)
    tl.store(columns + place, w, mask=k < K)


def sinkhorn_codes(
    x: Tensor, codebook: Tensor, starts: Tensor, epsilon: float, sweeps: int
) -> Tensor:
    """x [N, D], codebook [K, D] float32, starts [G + 1] int64 on the CPU -> codes [N] int64"""
    K = len(codebook)
    codes = torch.empty(len(x), dtype=torch.int64, device=x.device)
    finite = codebook.isfinite().all(dim=1)
    words = torch.where(finite[:, None], codebook, 0.0).T.contiguous()
    mapping = Mapping(x, words, finite.to(torch.int8), epsilon, sweeps, 2 / epsilon > REACH)
    sizes = starts.diff()
    width = triton.next_power_of_2(K)
    below = 0
    with torch.cuda.device_of(x):
        for rows in SINKHORN_ROWS:
            if rows * width > SINKHORN_ELEMENTS:
                break
            groups = ((sizes > below) & (sizes <= rows)).nonzero()[:, 0]
            if len(groups):
                _map_small(mapping, starts, groups, codes, rows, width)
            below = rows
        large = (sizes > below).nonzero()[:, 0].tolist()
        while large:
            held, count = 0, 0
            while count < len(large) and (count == 0 or held < PLAN_BYTES):
                held += 8 * K * int(sizes[large[count]])
                count += 1
            slab = torch.tensor(large[:count])
            _map_large(mapping, tuple(starts[slab].tolist()), tuple(sizes[slab].tolist()), codes)
            large = large[count:]
    return codes


class Mapping(NamedTuple):
    """What all groups share."""

    x: Tensor
    words: Tensor
    allowed: Tensor
    epsilon: float
    sweeps: int
    log: bool


def _map_small(
    mapping: Mapping, starts: Tensor, groups: Tensor, codes: Tensor, rows: int, width: int
) -> None:
    """Codes of some of the groups, of at most `rows` rows. width: K in a power of two."""
    x, words, allowed, epsilon, sweeps, log = mapping
    group_kernel[(len(groups),)](
        x,
        x.stride(0),
        x.stride(1),
        words,
        allowed,
        starts.to(x.device),
        groups.to(x.device),
        codes,
        words.shape[1],
        len(words),
        torch.full((1,), epsilon, dtype=torch.float64, device=x.device),
        sweeps,
        LOG=log,
        BLOCK_N=rows,
        BLOCK_K=width,
        num_warps=max(1, rows * width // SINKHORN_WARP),
    )


def _map_large(
    mapping: Mapping, begins: tuple[int, ...], sizes: tuple[int, ...], codes: Tensor
) -> None:
    """Codes of the groups begins[g]:begins[g] + sizes[g]."""
    x, words, allowed, epsilon, sweeps, log = mapping
    D, K = words.shape
    tile = SINKHORN_TILE
    blocks, borders, group, row = _division(begins, sizes, tile.rows, x.device)
    grid = (len(blocks), triton.cdiv(K, tile.words))
    shape = {"BLOCK_N": tile.rows, "BLOCK_K": tile.words, "num_warps": tile.warps}
    plan = torch.empty((len(row), K), dtype=torch.float64, device=x.device)
    distance_kernel[grid](x, x.stride(0), x.stride(1), words, allowed, blocks, plan, K, D, **shape)

    least = plan.amin(dim=1)
    most = plan.masked_fill(plan == math.inf, 0.0).amax(dim=1)
    lowest = _per_group(least, group, len(sizes), "amin")
    highest = _per_group(most, group, len(sizes), "amax")
    inverse = 1.0 / ((highest - (highest + lowest) / 2 + 1e-5) * epsilon)
    finite = least < math.inf
    plan.neg_().add_(torch.where(finite, least, 0.0)[:, None]).mul_(inverse[group][:, None])
    plan.masked_fill_(~finite[:, None], -math.inf)
    column = torch.zeros((len(sizes), K), dtype=torch.float64, device=x.device)
    if not log:
        plan.exp_()
        column += allowed

    factors = plan.new_empty(len(row))
    parts, peaks = plan.new_empty((2, len(blocks), K))
    last = plan.new_empty((2, len(sizes), K))
    columns = SINKHORN_COMBINE
    for _ in range(sweeps):
        sweep_kernel[grid[:1]](plan, blocks, column, factors, parts, peaks, K, LOG=log, **shape)
        combine_kernel[len(sizes), triton.cdiv(K, columns.words)](
            parts,
            peaks,
            borders,
            column,
            last,
            K,
            LOG=log,
            BLOCK_N=columns.rows,
            BLOCK_K=columns.words,
            num_warps=columns.warps,
        )

    if log:
        peak, w = last
        plan.add_(factors[:, None]).sub_(peak[group]).exp_()
    else:
        plan.mul_(factors[:, None])
        w = torch.where(column > 0, column, 1.0)
    code = plan.div_(w[group]).argmax(dim=1)
    codes[row] = torch.where(finite, code, -1)


@lru_cache(maxsize=8)
def _division(
    begins: tuple[int, ...], sizes: tuple[int, ...], rows: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`_divide` on the device, kept: the steps of a training share it, and none waits for a copy.

    A CUDA graph can't hold the copy; a first call before the capture makes it.
    """
    blocks, borders, group, row = _divide(torch.tensor(begins), torch.tensor(sizes), rows)
    return blocks.to(device), borders.to(device), group.to(device), row.to(device)


def _divide(begins: Tensor, sizes: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Groups into blocks of at most `rows` rows.

    -> blocks [B, 4]: its first row in x and in the plan, its rows, its group; borders [groups + 1]:
       the blocks of each group; group and row [M]: of each row of the plan, group and row in x
    """
    groups = torch.arange(len(sizes))
    count = (sizes + rows - 1) // rows
    borders = torch.cat([count.new_zeros(1), count.cumsum(0)])
    owner = groups.repeat_interleave(count)
    offset = (torch.arange(len(owner)) - borders[owner]) * rows
    place = sizes.cumsum(0) - sizes  # where a group's rows start in the plan
    taken = (sizes[owner] - offset).clamp(max=rows)
    blocks = torch.stack([begins[owner] + offset, place[owner] + offset, taken, owner], dim=1)
    group = groups.repeat_interleave(sizes)
    row = torch.arange(len(group)) + (begins - place)[group]
    return blocks, borders, group, row


def _per_group(values: Tensor, group: Tensor, groups: int, least: str) -> Tensor:
    found = values.new_full((groups,), math.inf if least == "amin" else 0.0)
    return found.scatter_reduce(0, group, values, least)
