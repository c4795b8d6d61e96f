"""Kernel of the uniform mapping of groups whose tile [rows, K] fits in registers: a program each.

A program does all sweeps of its group, in one of the two forms of sinkhorn_codes.py.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .sinkhorn_distances import TOP, half_range, squared_distances


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
            v = TOP * tl.min(w, axis=0) / w
            u = tl.where(live, TOP / tl.sum(plan * v[None, :], axis=1), 0.0)
            w = tl.where(column, tl.sum(plan * u[:, None], axis=0), float("inf"))
        q = plan * u[:, None] / w[None, :]
    best = tl.max(q, axis=1)
    found = tl.where((q == best[:, None]) & column[None, :], k[None, :], K)
    code = tl.min(found, axis=1).to(tl.int64)
    tl.store(codes + row, tl.where(live & (code < K), code, -1), mask=inside)
