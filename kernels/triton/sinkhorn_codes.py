"""The uniform mapping of each group of rows, as kernels/reference/sinkhorn_codes.py defines it.

    A = (min_k d − d)/(h·ε);  f = −ln Σ_k exp(A + g), g = −ln Σ_i exp(A + f) in turn

In two forms, which kernels/cpp/sinkhorn_codes.cpp derives. Where 2/ε ≤ REACH, sweeps are sums of
products with G = exp A, u = exp f and v = exp g; otherwise (LOG) they are as above. All in float64:
the codes are the reference's but for rounding, which float32, with |A| up to 2/ε = 667 and so an
error of 4e-5 a sweep, can't promise. It costs little: the first form has no exponentials in its
sweeps, 4 flops an element of 8 bytes, which is memory's business even where float64 runs at 1/64 of
float32's rate. The log form is compute-bound there.

Groups whose tile [rows, K] fits in registers take a program each (sinkhorn_small.py). The larger
ones go together, in slabs of PLAN_BYTES, all sweeps in one launch (sinkhorn_large.py).

In:  x [N, D] any strides; codebook [K, D] float32; starts [G + 1] int64.
Out: codes [N] int64; −1 for a row with NaN or Inf, which does not belong to its group.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from .sinkhorn_large import mapping_kernel
from .sinkhorn_small import group_kernel
from .tiles import (
    PLAN_BYTES,
    SINKHORN_COMBINE,
    SINKHORN_ELEMENTS,
    SINKHORN_ROWS,
    SINKHORN_TILE,
    SINKHORN_WARP,
    co_resident,
)

# Largest 2/ε of the form with products.
REACH = 680.0


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
