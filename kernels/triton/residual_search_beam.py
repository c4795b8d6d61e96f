"""The best of `beam` partial paths by exact ‖r‖², equal ones by lowest codes; float64 throughout.

    d_{p,k} = ‖r_p − e_k‖²; the `keep` least by (d, path, k) survive; r ← fl32(r_p − e_k)

Paths of a row stand in the order of their codes, so that p·K + k orders the extensions as their
codes do, and a tie goes to the lowest. Only *which* extensions survive matters, so only the border
between the last that stays and the first that goes must be exact. With v the keep-th least d and E
its relative error (settle.py), an extension with

    d(1 + E) < v(1 − E) stays,    d(1 − E) > v(1 + E) goes

because the keep-th least exact distance lies within v(1 ± E); those between are compared exactly.

In memory for a slab of rows: residuals [rows, B, D] float32 and d [rows, B, K] float64. torch
selects. A certified fp16 screen, as the greedy search has, is not built here.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from .codebook import pack
from .exact import exact_least
from .gather import gather
from .settle import distances
from .tiles import BEAM, BEAM_BYTES, block_shape, padded_width

_NONE = tl.constexpr(2147483647)


@triton.jit(do_not_specialize=["K"])
def path_distances_kernel(
    residuals,
    alive,
    codebook,
    allowed,
    extensions,
    K,
    D,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """extensions [rows, B, K] float64: d, inf for a path not alive or a codeword not allowed."""
    path = tl.program_id(0).to(tl.int64)
    living = tl.load(alive + path) != 0
    for k0 in range(0, K, BLOCK_K):
        k = k0 + tl.arange(0, BLOCK_K)
        d, _ = distances(
            residuals + path * D,
            codebook,
            codebook,
            allowed,
            k,
            (k < K) & living,
            D,
            False,
            BLOCK_K,
            BLOCK_D,
        )
        tl.store(extensions + path * K + k, d, mask=k < K)


@triton.jit(do_not_specialize=["keep", "K", "B"])
def border_kernel(
    residuals,
    codebook,
    extensions,
    edge,
    following,
    keep,
    K,
    B,
    D,
    KEEP: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Gives d = −1 to extensions at the border that stay. edge, following [rows]: the keep-th and
    the next d."""
    row = tl.program_id(0).to(tl.int64)
    E = tl.cast(D + 8, tl.float64) * 2.0**-52
    v = tl.load(edge + row)
    after = tl.load(following + row)
    if (after < float("inf")) & (after * (1 - E) <= v * (1 + E)):
        lane = tl.arange(0, BLOCK_K)
        d_row = extensions + row * B * K
        r_row = residuals + row * B * D
        picked = tl.full([KEEP], -1, tl.int32)
        number = 0
        missing = keep
        for at in range(0, B * K, BLOCK_K):
            d = tl.load(d_row + at + lane, mask=at + lane < B * K, other=float("inf"))
            missing -= tl.sum((d * (1 + E) < v * (1 - E)).to(tl.int32), axis=0)
        while number < missing:
            best = _NONE
            for at in range(0, B * K, BLOCK_K - 1):
                flat = tl.where(lane == 0, best, at + lane - 1)
                inside = flat < B * K
                flat = tl.where(inside, flat, 0)
                d = tl.load(d_row + flat, mask=inside, other=float("inf"))
                border = inside & (d * (1 + E) >= v * (1 - E)) & (d * (1 - E) <= v * (1 + E))
                border = border & (tl.max((flat[:, None] == picked[None, :]).to(tl.int32), 1) == 0)
                r = r_row + (flat // K).to(tl.int64) * D
                e = codebook + (flat % K).to(tl.int64) * D
                if tl.sum(border.to(tl.int32), axis=0) > 0:
                    best = exact_least(r, e, d_row, flat, border, D, False, BLOCK_K, BLOCK_D)
            picked = tl.where(tl.arange(0, KEEP) == number, best, picked)
            number += 1
        tl.debug_barrier()  # every warp has loaded what it compares
        tl.store(d_row + picked, tl.full([KEEP], -1.0, tl.float64), mask=picked >= 0)


def residual_search_beam(
    x: Tensor, codebooks: Tensor, sizes: list[int], beam: int
) -> tuple[Tensor, Tensor]:
    """x [N, D], codebooks [ΣK, D] float32 -> codes [N, L] int64, quantized [N, D] float32"""
    N, D = x.shape
    if N == 0:
        return x.new_empty((0, len(sizes)), dtype=torch.int64), x.new_empty(0, D).float()
    packed = pack(codebooks, sizes, None, padded_width(D))
    levels = list(zip(codebooks.split(sizes), packed.allowed.split(sizes)))
    row_bytes = beam * (16 * max(sizes) + 12 * D)  # d and topk's copy; residuals before and after
    codes = x.new_empty((N, len(sizes)), dtype=torch.int64)
    slab = max(1, BEAM_BYTES // row_bytes)
    with torch.cuda.device_of(x):
        for start in range(0, N, slab):
            codes[start : start + slab] = _best_paths(x[start : start + slab].float(), levels, beam)
        return codes, gather(codes, codebooks, packed.layout)


def _best_paths(x: Tensor, levels: list[tuple[Tensor, Tensor]], beam: int) -> Tensor:
    """The codes of a slab of rows, [rows, L]; −1 where no finite path is left."""
    rows, D = x.shape
    residuals = x.contiguous()[:, None]
    alive = residuals.isfinite().all(dim=2)
    paths = torch.empty((rows, 1, 0), dtype=torch.int64, device=x.device)
    for level, (codebook, allowed) in enumerate(levels):
        K = len(codebook)
        keep = min(beam if level + 1 < len(levels) else 1, alive.shape[1] * K)
        flat, finite = _least(residuals, alive, codebook, allowed, keep)
        parent, code = flat // K, flat % K
        residuals = residuals.gather(1, parent[..., None].expand(-1, -1, D)) - codebook[code]
        alive = finite & residuals.isfinite().all(dim=2)
        paths = paths.gather(1, parent[..., None].expand(-1, -1, level))
        paths = torch.cat([paths, code[..., None]], dim=2)
    return torch.where(alive, paths[:, 0], -1)


def _least(
    residuals: Tensor, alive: Tensor, codebook: Tensor, allowed: Tensor, keep: int
) -> tuple[Tensor, Tensor]:
    """p·K + k of the `keep` least extensions, ascending, and whether each is one at all.

    residuals [rows, B, D], alive [rows, B], codebook [K, D], allowed [K] -> [rows, keep] twice
    """
    rows, B, D = residuals.shape
    K = len(codebook)
    shape = block_shape(BEAM, D)
    d = torch.empty((rows, B * K), dtype=torch.float64, device=codebook.device)
    path_distances_kernel[(rows * B,)](
        residuals, alive.to(torch.int8), codebook, allowed, d, K, D, **shape
    )
    if keep < B * K:
        smallest = d.topk(keep + 1, dim=1, largest=False).values
        edge, following = smallest[:, keep - 1 :].T.contiguous()
        border_kernel[(rows,)](
            residuals,
            codebook,
            d,
            edge,
            following,
            keep,
            K,
            B,
            D,
            KEEP=triton.next_power_of_2(keep),
            **shape,
        )
    chosen = d.topk(keep, dim=1, largest=False)
    flat, order = chosen.indices.sort(dim=1)
    return flat, chosen.values.gather(1, order) < math.inf
