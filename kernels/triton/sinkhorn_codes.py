"""The uniform mapping of each group of rows, as kernels/reference/sinkhorn_codes.py defines it.

    A = (min_k d − d)/(h·ε);  f = −ln Σ_k exp(A + g), g = −ln Σ_i exp(A + f) in turn

In two forms, which kernels/cpp/sinkhorn_codes.cpp derives. Where 2/ε ≤ REACH, sweeps are sums of
products with G = exp A, u = exp f and v = exp g; otherwise (LOG) they are as above. All in float64:
the codes are the reference's but for rounding, which float32, with |A| up to 2/ε = 667 and so an
error of 4e-5 a sweep, can't promise. It costs little: the first form has no exponentials in its
sweeps, 4 flops an element of 8 bytes, which is memory's business even where float64 runs at 1/64 of
float32's rate. The log form is compute-bound there.

Groups whose tile [rows, K] fits in registers take a program each, which does all sweeps. The larger
ones go together, in slabs of PLAN_BYTES, all sweeps in one launch: mapping_kernel keeps A or G in
memory, its programs share out blocks of rows, then columns, and wait for one another in between.

    a sweep    a block of rows: u or f, and its part of w, the columns' sums
               some columns of a group: w of the parts, in the order of the blocks

No sum depends on how many programs there are. That all of them are running, so that the waits end,
is what a cooperative launch promises: the driver refuses a grid that the device can't hold at once.

In:  x [N, D] any strides; codebook [K, D] float32; starts [G + 1] int64.
Out: codes [N] int64; −1 for a row with NaN or Inf, which is no part of its group.
"""

from __future__ import annotations

import struct
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
    co_resident,
)

# Largest 2/ε of the form with products, and its largest v.
REACH = 680.0
_TOP = tl.constexpr(2.0**480)


@triton.jit
def squared_distances(
    x,
    stride_n,
    stride_d,
    row,
    inside,
    codebook,
    k,
    K,
    D,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """d [BLOCK_N, BLOCK_K] float64 of rows `row` and codewords k, and which of both are finite."""
    d = tl.zeros([BLOCK_N, BLOCK_K], tl.float64)
    finite = inside
    column = k < K
    for j in range(D):
        at = tl.cast(j, tl.int64)
        part = tl.load(x + row * stride_n + at * stride_d, mask=inside, other=0.0).to(tl.float32)
        finite = finite & (tl.abs(part) < float("inf"))
        word = tl.load(codebook + k.to(tl.int64) * D + j, mask=k < K, other=0.0)
        column = column & (tl.abs(word) < float("inf"))
        gap = part.to(tl.float64)[:, None] - word.to(tl.float64)[None, :]
        d += gap * gap
    return d, finite, column


@triton.jit
def half_range(lowest, highest, epsilon):
    """h·ε, what distances of a group are divided by."""
    return (highest - (highest + lowest) / 2 + 1e-5) * epsilon.to(tl.float64, bitcast=True)


@triton.jit(do_not_specialize=["epsilon", "sweeps"])
def group_kernel(
    x,
    stride_n,
    stride_d,
    codebook,
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
    """All of a group of at most BLOCK_N rows. groups: which ones; epsilon: the bits of a float64,
    which Triton would pass on as a float32."""
    group = tl.load(groups + tl.program_id(0))
    begin = tl.load(starts + group)
    row = begin + tl.arange(0, BLOCK_N)
    inside = row < tl.load(starts + group + 1)
    k = tl.arange(0, BLOCK_K)
    d, live, column = squared_distances(
        x, stride_n, stride_d, row, inside, codebook, k, K, D, BLOCK_N, BLOCK_K
    )

    taken = live[:, None] & column[None, :]
    least = tl.min(tl.where(taken, d, float("inf")), axis=1)
    lowest = tl.min(least, axis=0)
    highest = tl.max(tl.max(tl.where(taken, d, 0.0), axis=1), axis=0)
    inverse = 1.0 / half_range(lowest, highest, epsilon)
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
def wait_for_all(arrived, round):
    """Until all programs have come here `round` times; then each sees what the others have stored.

    arrived [1] int32: 0 at first. The barriers make it the business of all threads: stores come
    before their program's arrival, loads after it has seen everybody's.
    """
    tl.debug_barrier()
    tl.atomic_add(arrived, 1, sem="release")
    while tl.atomic_add(arrived, 0, sem="acquire") < round * tl.num_programs(0):
        pass
    tl.debug_barrier()


@triton.jit
def measure_block(
    x,
    stride_n,
    stride_d,
    codebook,
    block,
    begins,
    plan,
    least,
    spans,
    columns,
    number,
    K,
    D,
    LOG: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """plan: d, inf where the row or the codeword isn't finite. least [rows]: of each row; spans
    [blocks, 2]: the least and the largest of a block. columns of a group, by its first block: w or
    g before the first sweep.
    """
    i = tl.arange(0, BLOCK_N)
    inside = i < tl.load(block + 2)
    place = tl.load(block + 1) + i
    group = tl.load(block + 3)
    first = tl.load(begins + group) == number
    nearest = tl.full([BLOCK_N], float("inf"), tl.float64)
    farthest = tl.zeros([BLOCK_N], tl.float64)
    for k0 in range(0, K, BLOCK_K):
        k = k0 + tl.arange(0, BLOCK_K)
        d, live, column = squared_distances(
            x, stride_n, stride_d, tl.load(block) + i, inside, codebook, k, K, D, BLOCK_N, BLOCK_K
        )
        taken = live[:, None] & column[None, :]
        farthest = tl.maximum(farthest, tl.max(tl.where(taken, d, 0.0), axis=1))
        d = tl.where(taken, d, float("inf"))
        nearest = tl.minimum(nearest, tl.min(d, axis=1))
        at = place[:, None] * K + k[None, :]
        tl.store(plan + at, d, mask=inside[:, None] & (k < K)[None, :])
        even = tl.zeros([BLOCK_K], tl.float64)
        if not LOG:
            even += column.to(tl.float64)
        tl.store(columns + group * K + k, even, mask=first & (k < K))
    tl.store(least + place, nearest, mask=inside)
    tl.store(spans + 2 * number, tl.min(nearest, axis=0))
    tl.store(spans + 2 * number + 1, tl.max(farthest, axis=0))


@triton.jit
def scale_block(
    block,
    borders,
    plan,
    least,
    spans,
    epsilon,
    K,
    LOG: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """plan: A of d, or G = exp A."""
    group = tl.load(block + 3)
    low = tl.full([BLOCK_K], float("inf"), tl.float64)
    high = tl.zeros([BLOCK_K], tl.float64)
    end = tl.load(borders + group + 1)
    for other in range(tl.load(borders + group), end, BLOCK_K):
        lane = other + tl.arange(0, BLOCK_K)
        low = tl.minimum(low, tl.load(spans + 2 * lane, mask=lane < end, other=float("inf")))
        high = tl.maximum(high, tl.load(spans + 2 * lane + 1, mask=lane < end, other=0.0))
    inverse = 1.0 / half_range(tl.min(low, axis=0), tl.max(high, axis=0), epsilon)

    i = tl.arange(0, BLOCK_N)
    inside = i < tl.load(block + 2)
    place = tl.load(block + 1) + i
    nearest = tl.load(least + place, mask=inside, other=float("inf"))
    live = nearest < float("inf")
    nearest = tl.where(live, nearest, 0.0)
    for k0 in range(0, K, BLOCK_K):
        k = k0 + tl.arange(0, BLOCK_K)
        at = place[:, None] * K + k[None, :]
        mask = inside[:, None] & (k < K)[None, :]
        d = tl.load(plan + at, mask=mask, other=float("inf"))
        a = tl.where(live[:, None], (nearest[:, None] - d) * inverse, float("-inf"))
        tl.debug_barrier()  # before d is overwritten
        tl.store(plan + at, a if LOG else tl.exp(a), mask=mask)
        tl.debug_barrier()  # before it is read


@triton.jit
def sweep_block(
    block,
    plan,
    columns,
    factors,
    parts,
    peaks,
    number,
    K,
    LOG: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """factors [rows]: u, with LOG f. parts [blocks, K]: Σ u_i G_ik.

    With LOG Σ exp(A_ik + f_i − peak_k), peaks [blocks, K].
    columns [groups, K]: w, 0 for a codeword that isn't finite; with LOG g.
    """
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
def combine_columns(
    parts,
    peaks,
    borders,
    columns,
    last,
    item,
    groups,
    K,
    LOG: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Some columns of a group. columns [groups, K]: w, with LOG g; last [2, groups, K]: peak and w
    that g comes of.
    """
    chunks = tl.cdiv(K, BLOCK_K)
    group = tl.cast(item // chunks, tl.int64)
    k = item % chunks * BLOCK_K + tl.arange(0, BLOCK_K)
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
        tl.store(last + groups.to(tl.int64) * K + place, w, mask=k < K)
        w = -peak - tl.log(w)
    tl.store(columns + place, w, mask=k < K)


@triton.jit
def choose_codes(
    block,
    plan,
    factors,
    least,
    columns,
    last,
    codes,
    groups,
    K,
    LOG: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """The column of a row's largest Q, whose columns add up to 1: the lowest index among equals."""
    i = tl.arange(0, BLOCK_N)
    inside = i < tl.load(block + 2)
    place = tl.load(block + 1) + i
    group = tl.load(block + 3)
    factor = tl.load(factors + place, mask=inside, other=0.0)
    best = tl.full([BLOCK_N], -1.0, tl.float64)
    code = tl.zeros([BLOCK_N], tl.int64)
    for k0 in range(0, K, BLOCK_K):
        k = k0 + tl.arange(0, BLOCK_K)
        mask = inside[:, None] & (k < K)[None, :]
        q = tl.load(
            plan + place[:, None] * K + k[None, :], mask=mask, other=float("-inf") if LOG else 0.0
        )
        if LOG:
            peak = tl.load(last + group * K + k, mask=k < K, other=0.0)
            w = tl.load(last + (groups + group) * K + k, mask=k < K, other=1.0)
            q = tl.exp(q + factor[:, None] - peak[None, :]) / w[None, :]
        else:
            w = tl.load(columns + group * K + k, mask=k < K, other=0.0)
            q = q * factor[:, None] / tl.where(w > 0, w, 1.0)[None, :]
        highest = tl.max(q, axis=1)
        here = tl.min(tl.where(q == highest[:, None], k[None, :], K), axis=1)
        code = tl.where(highest > best, here.to(tl.int64), code)
        best = tl.maximum(best, highest)
    live = tl.load(least + place, mask=inside, other=float("inf")) < float("inf")
    tl.store(codes + tl.load(block) + i, tl.where(live, code, -1), mask=inside)


@triton.jit(do_not_specialize=["number", "groups", "epsilon", "sweeps"])
def mapping_kernel(
    x,
    stride_n,
    stride_d,
    codebook,
    blocks,
    borders,
    plan,
    least,
    factors,
    spans,
    columns,
    last,
    parts,
    peaks,
    arrived,
    codes,
    number,
    groups,
    K,
    D,
    epsilon,
    sweeps,
    LOG: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    COMBINE_N: tl.constexpr,
    COMBINE_K: tl.constexpr,
):
    """All of the groups. A block of rows is always the same program's.

    blocks [number, 4] and borders [groups + 1] int64: see `_divide`. epsilon as in group_kernel.
    """
    own = tl.program_id(0)
    programs = tl.num_programs(0)
    for at in range(own, number, programs):
        block = tl.cast(at, tl.int64)
        measure_block(
            x,
            stride_n,
            stride_d,
            codebook,
            blocks + block * 4,
            borders,
            plan,
            least,
            spans,
            columns,
            block,
            K,
            D,
            LOG,
            BLOCK_N,
            BLOCK_K,
        )
    wait_for_all(arrived, 1)
    for at in range(own, number, programs):
        block = blocks + tl.cast(at, tl.int64) * 4
        scale_block(block, borders, plan, least, spans, epsilon, K, LOG, BLOCK_N, BLOCK_K)

    items = groups * tl.cdiv(K, COMBINE_K)
    for sweep in range(sweeps):
        for at in range(own, number, programs):
            block = tl.cast(at, tl.int64)
            sweep_block(
                blocks + block * 4,
                plan,
                columns,
                factors,
                parts,
                peaks,
                block,
                K,
                LOG,
                BLOCK_N,
                BLOCK_K,
            )
        wait_for_all(arrived, 2 * sweep + 2)
        for item in range(own, items, programs):
            combine_columns(
                parts, peaks, borders, columns, last, item, groups, K, LOG, COMBINE_N, COMBINE_K
            )
        wait_for_all(arrived, 2 * sweep + 3)

    for at in range(own, number, programs):
        block = blocks + tl.cast(at, tl.int64) * 4
        choose_codes(
            block, plan, factors, least, columns, last, codes, groups, K, LOG, BLOCK_N, BLOCK_K
        )


def sinkhorn_codes(
    x: Tensor, codebook: Tensor, starts: Tensor, epsilon: float, sweeps: int
) -> Tensor:
    """x [N, D], codebook [K, D] float32, starts [G + 1] int64 on the CPU -> codes [N] int64"""
    K = len(codebook)
    codes = torch.empty(len(x), dtype=torch.int64, device=x.device)
    (bits,) = struct.unpack("q", struct.pack("d", epsilon))
    mapping = Mapping(x, codebook.contiguous(), bits, sweeps, 2 / epsilon > REACH)
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
    """The arguments that all groups share."""

    x: Tensor
    codebook: Tensor
    epsilon: int  # the bits of a float64
    sweeps: int
    log: bool


def _map_small(
    mapping: Mapping, starts: Tensor, groups: Tensor, codes: Tensor, rows: int, width: int
) -> None:
    """Codes of some of the groups, of at most `rows` rows. width: K in a power of two."""
    x, codebook, epsilon, sweeps, log = mapping
    if len(starts) == 2:
        starts, groups = _alone(len(x), x.device)
    group_kernel[(len(groups),)](
        x,
        x.stride(0),
        x.stride(1),
        codebook,
        starts.to(x.device),
        groups.to(x.device),
        codes,
        *codebook.shape,
        epsilon,
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
    x, codebook, epsilon, sweeps, log = mapping
    K, D = codebook.shape
    tile, combine = SINKHORN_TILE, SINKHORN_COMBINE
    blocks, borders = _division(begins, sizes, tile.rows, x.device)
    number, groups, rows = len(blocks), len(sizes), sum(sizes)
    plan = torch.empty((rows, K), dtype=torch.float64, device=x.device)
    least, factors = plan.new_empty((2, rows))
    parts, peaks = plan.new_empty((2, number, K))
    columns = plan.new_empty((3, groups, K))
    work = max(number, groups * triton.cdiv(K, combine.words))
    mapping_kernel[(co_resident(work, x.device),)](
        x,
        x.stride(0),
        x.stride(1),
        codebook,
        blocks,
        borders,
        plan,
        least,
        factors,
        plan.new_empty((number, 2)),
        columns[0],
        columns[1:],
        parts,
        peaks,
        torch.zeros(1, dtype=torch.int32, device=x.device),
        codes,
        number,
        groups,
        K,
        D,
        epsilon,
        sweeps,
        LOG=log,
        BLOCK_N=tile.rows,
        BLOCK_K=tile.words,
        COMBINE_N=combine.rows,
        COMBINE_K=combine.words,
        num_warps=tile.warps,
        launch_cooperative_grid=True,
    )


@lru_cache(maxsize=8)
def _alone(rows: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """starts and groups of one group, kept as `_division` is."""
    return torch.tensor([0, rows]).to(device), torch.zeros(1, dtype=torch.int64).to(device)


@lru_cache(maxsize=8)
def _division(
    begins: tuple[int, ...], sizes: tuple[int, ...], rows: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """`_divide` on the device, kept: the steps of a training share it, and none waits for a copy.

    A CUDA graph can't hold the copy; a first call before the capture makes it.
    """
    blocks, borders = _divide(torch.tensor(begins), torch.tensor(sizes), rows)
    return blocks.to(device), borders.to(device)


def _divide(begins: Tensor, sizes: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Groups into blocks of at most `rows` rows.

    -> blocks [B, 4]: its first row in x and in the plan, its rows, its group; borders [groups + 1]:
       the blocks of each group
    """
    count = (sizes + rows - 1) // rows
    borders = torch.cat([count.new_zeros(1), count.cumsum(0)])
    owner = torch.arange(len(sizes)).repeat_interleave(count)
    offset = (torch.arange(len(owner)) - borders[owner]) * rows
    place = sizes.cumsum(0) - sizes  # where a group's rows start in the plan
    taken = (sizes[owner] - offset).clamp(max=rows)
    return torch.stack(
        [begins[owner] + offset, place[owner] + offset, taken, owner], dim=1
    ), borders
