"""Device functions of both Sinkhorn kernels: distances of rows to codewords, and their scale."""

from __future__ import annotations

import triton
import triton.language as tl

# The largest v of the form with products.
TOP = tl.constexpr(2.0**480)


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
