"""Kernel of the uniform mapping of groups that don't fit in registers, all sweeps in one launch.

It keeps A or G in memory (`plan`). Its programs share out blocks of rows, then columns, and wait
for one another in between:

    measure    a block of rows: d, and the block's least and largest
    scale      a block of rows: A of d, or G
    a sweep    a block of rows: u or f, and its part of w, the columns' sums
               some columns of a group: w of the parts, in the order of the blocks
    choose     a block of rows: codes

No sum depends on how many programs there are. That all of them are running, so that the waits end,
is what a cooperative launch promises: the driver refuses a grid that the device can't hold at once.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .sinkhorn_distances import TOP, half_range, squared_distances


@triton.jit
def wait_for_all(arrived, round):
    """Until all programs have come here `round` times; then each sees what the others have stored.

    arrived [1] int32: 0 at first. The barriers make it the business of all threads: stores come
    before their program's arrival, loads after it has seen all others'.
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
        top = tl.min(least, axis=0) * TOP

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
        factor = tl.where(s > 0, TOP / s, 0.0)
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

    blocks [number, 4] and borders [groups + 1] int64: see `sinkhorn_codes._divide`. epsilon: the
    bits of a float64, which Triton would pass on as a float32.
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
