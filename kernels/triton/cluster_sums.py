"""sums_k = Σ rint(x·2^s) over the rows of code k, as integers: the same bits in any order.

    sort the rows by code  ->  each program adds up the runs of equal codes among its rows, then
                               adds a run's sum to sums_k, one integer atomic a column

In:  x [N, D] any strides; codes [N] int64, −1 counts nowhere and its row isn't read.
Out: sums [K, D] and counts [K] int64.

Sorted, there are (N / rows a program + K)·D atomics at most, however unevenly codes are spread.
Unsorted there would be N·D, 8 bytes each: twice what a float32 x takes, and those of a crowded
code would queue at the same D addresses. For N = 10⁶:

                       x          atomics unsorted     atomics sorted      the sort
    D = 32,  K = 256   0.13 GB    32 M,  0.26 GB       0.3 M, 0.002 GB     ~0.05 GB
    D = 768, K = 1024  3.1 GB     768 M, 6.1 GB        7 M,   0.05 GB      ~0.05 GB

x·2^s is exact in float64, so that contraction to FMA changes nothing.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .exact import two_to
from .tiles import SUMS, SUMS_STEP

# Rows sorted at once, about 40 bytes each.
SLAB_ROWS = 1 << 24
_NONE = tl.constexpr(2147483647)


@triton.jit
def rint(v):
    """v rounded to an integer, half to even. v float64; from 2⁵² on it is one."""
    shift = tl.where(v < 0, -4503599627370496.0, 4503599627370496.0)
    return tl.where(tl.abs(v) < 4503599627370496.0, (v + shift) - shift, v)


@triton.jit(do_not_specialize=["N", "power"])
def code_sums_kernel(
    x,
    stride_n,
    stride_d,
    order,
    ordered,
    sums,
    N,
    D,
    power,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    columns = tl.cdiv(D, BLOCK_D)  # side by side, so that a row is read in one go
    at = tl.program_id(0) // columns * BLOCK_N + tl.arange(0, BLOCK_N)
    d = tl.program_id(0) % columns * BLOCK_D + tl.arange(0, BLOCK_D)
    code = tl.load(ordered + at, mask=at < N, other=-1).to(tl.int32)
    row = tl.load(order + at, mask=at < N, other=0)
    place = x + row[:, None] * stride_n + d.to(tl.int64)[None, :] * stride_d
    v = tl.load(place, mask=(code >= 0)[:, None] & (d < D)[None, :], other=0.0)
    fixed = rint(v.to(tl.float32).to(tl.float64) * two_to(power)).to(tl.int64)

    run = tl.min(tl.where(code >= 0, code, _NONE), axis=0)
    while run < _NONE:
        total = tl.sum(tl.where((code == run)[:, None], fixed, 0), axis=0)
        tl.atomic_add(sums + run.to(tl.int64) * D + d, total, mask=d < D, sem="relaxed")
        run = tl.min(tl.where(code > run, code, _NONE), axis=0)


def cluster_sums(x: Tensor, codes: Tensor, count: int, exponent: int) -> tuple[Tensor, Tensor]:
    """x [N, D], codes [N] int64 below `count`, |exponent| ≤ 1000
    -> sums [count, D] int64, counts [count] int64
    """
    D = x.shape[1]
    sums = x.new_zeros((count, D), dtype=torch.int64)
    counts = x.new_zeros(count, dtype=torch.int64)
    small = torch.int16 if count < 1 << 15 else torch.int32  # fewer passes of the sort
    words = torch.arange(count + 1, dtype=small, device=x.device)
    width = min(SUMS_STEP, max(16, triton.next_power_of_2(D)))
    rows = SUMS.elements // width
    for part, labels in zip(x.split(SLAB_ROWS), codes.split(SLAB_ROWS)):
        if len(part) == 0:
            continue
        ordered, order = labels.to(small).sort()
        counts += torch.searchsorted(ordered, words).diff()
        with torch.cuda.device_of(x):
            code_sums_kernel[(triton.cdiv(len(part), rows) * triton.cdiv(D, width),)](
                part,
                part.stride(0),
                part.stride(1),
                order,
                ordered,
                sums,
                len(part),
                D,
                exponent,
                BLOCK_N=rows,
                BLOCK_D=width,
                num_warps=SUMS.warps,
            )
    return sums, counts
