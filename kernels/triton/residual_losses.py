"""The walk that codes describe, r_l = r_{l−1} − e_{c_l}, and what its losses need of it.

    forward     q = Σ_l e_{c_l},    error_l = Σ_i ‖r_l‖²
    backward    ∂x = ∂q + Σ_l to_x_l r_l
                ∂e_k = −Σ_{i: c_l = k} (own_l r_l + Σ_{m > l} later_m r_m)

In:  x, ∂q [N, D] float32 contiguous, codes [N, L] int64, codebooks [ΣK, D] float32,
     weights [3, L] and errors [L] float64.
Out: q, ∂x [N, D], ∂codebooks [ΣK, D] float32; partial [programs, L + 1] float64, added up by torch:
     a program's part of each error, and of the rows that are counted.
A program takes BLOCK_N rows × BLOCK_D columns and keeps nothing of the residuals but the last.

Codebook gradients are added by integer atomics, whose order doesn't matter: a term v counts as
trunc(v·2ˢ). By Cauchy–Schwarz no sum of a level exceeds

    reach_l = √N (|own_l| √error_l + Σ_{m > l} |later_m| √error_m)

and s is the largest integer for which 2ˢ·reach_l is sure to stay below 2⁶¹: truncation costs a sum
of n terms at most n·2⁻⁶⁰ of the reach.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .codebook import layout_of
from .tiles import walk_shape


@triton.jit(do_not_specialize=["N", "L"])
def walk_kernel(
    x,
    codes,
    codebooks,
    starts,
    quantized,
    partial,
    N,
    D,
    L,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    valid = tl.load(codes + row * L, mask=row < N, other=-1) >= 0
    mask = valid[:, None] & (d < D)[None, :]
    at = row[:, None] * D + d[None, :]
    r = tl.load(x + at, mask=mask, other=0.0)
    total = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    program = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    for level in range(L):
        code = tl.load(codes + row * L + level, mask=valid, other=0)
        word = (tl.load(starts + level) + code)[:, None] * D + d[None, :]
        e = tl.load(codebooks + word, mask=mask, other=0.0)
        r -= e
        total += e
        wide = r.to(tl.float64)
        part = tl.sum(tl.sum(wide * wide, axis=1), axis=0)
        tl.store(partial + program * (L + 1) + level, part)
    counted = tl.sum((valid & (tl.program_id(1) == 0)).to(tl.float64), axis=0)
    tl.store(partial + program * (L + 1) + L, counted)
    tl.store(quantized + at, total, mask=(row < N)[:, None] & (d < D)[None, :])


@triton.jit
def fixed_point(weights, errors, level, N, L):
    """2ˢ of a level; NaN, and so are its gradients, where a weight is not finite."""
    reach = tl.abs(tl.load(weights + L + level)) * tl.sqrt(tl.load(errors + level))
    for later in range(level + 1, L):
        reach += tl.abs(tl.load(weights + 2 * L + later)) * tl.sqrt(tl.load(errors + later))
    reach *= tl.sqrt(tl.cast(N, tl.float64))
    # reach < 2^(exponent − 1022), so that 2^(1083 − exponent) may multiply it; kept normal.
    exponent = (reach.to(tl.int64, bitcast=True) >> 52) & 2047
    biased = tl.minimum(tl.maximum(2106 - exponent, 1), 2046)
    scale = (biased << 52).to(tl.float64, bitcast=True)
    return tl.where(exponent == 2047, float("nan"), scale)


@triton.jit(do_not_specialize=["N", "L"])
def scatter_kernel(
    x,
    codes,
    codebooks,
    starts,
    grad_quantized,
    weights,
    errors,
    grad_x,
    sums,
    N,
    D,
    L,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    valid = tl.load(codes + row * L, mask=row < N, other=-1) >= 0
    mask = valid[:, None] & (d < D)[None, :]
    at = row[:, None] * D + d[None, :]

    carried = tl.zeros([BLOCK_N, BLOCK_D], tl.float64)
    r = tl.load(x + at, mask=mask, other=0.0)
    for level in range(L):
        code = tl.load(codes + row * L + level, mask=valid, other=0)
        word = (tl.load(starts + level) + code)[:, None] * D + d[None, :]
        r -= tl.load(codebooks + word, mask=mask, other=0.0)
        carried += tl.load(weights + 2 * L + level) * r.to(tl.float64)

    r = tl.load(x + at, mask=mask, other=0.0)
    to_x = tl.load(grad_quantized + at, mask=mask, other=0.0).to(tl.float64)
    for level in range(L):
        code = tl.load(codes + row * L + level, mask=valid, other=0)
        word = (tl.load(starts + level) + code)[:, None] * D + d[None, :]
        r -= tl.load(codebooks + word, mask=mask, other=0.0)
        wide = r.to(tl.float64)
        to_x += tl.load(weights + level) * wide
        carried -= tl.load(weights + 2 * L + level) * wide
        term = tl.load(weights + L + level) * wide + carried
        scaled = (term * fixed_point(weights, errors, level, N, L)).to(tl.int64)
        tl.atomic_add(sums + word, scaled, mask=mask, sem="relaxed")
    tl.store(grad_x + at, to_x.to(tl.float32), mask=(row < N)[:, None] & (d < D)[None, :])


@triton.jit(do_not_specialize=["N", "K", "L"])
def unscale_kernel(
    sums,
    owner,
    weights,
    errors,
    grad_codebooks,
    N,
    K,
    D,
    L,
    BLOCK_D: tl.constexpr,
):
    """A program a codeword: ∂e = −sum·2⁻ˢ; 0 for an unused one."""
    k = tl.program_id(0).to(tl.int64)
    scale = fixed_point(weights, errors, tl.load(owner + k).to(tl.int32), N, L)
    for d0 in range(0, D, BLOCK_D):
        d = d0 + tl.arange(0, BLOCK_D)
        total = tl.load(sums + k * D + d, mask=d < D, other=0).to(tl.float64)
        tl.store(grad_codebooks + k * D + d, (0.0 - total / scale).to(tl.float32), mask=d < D)


def residual_losses(
    x: Tensor, codebooks: Tensor, sizes: list[int], codes: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """x [N, D], codebooks [ΣK, D] float32, codes [N, L] int64
    -> quantized [N, D] float32, errors [L] and counted [] float64
    """
    N, D = x.shape
    L = len(sizes)
    quantized = torch.empty_like(x)
    shape = walk_shape(D)
    grid = triton.cdiv(N, shape["BLOCK_N"]), triton.cdiv(D, shape["BLOCK_D"])
    partial = torch.empty((grid[0] * grid[1], L + 1), dtype=torch.float64, device=x.device)
    if N > 0:
        starts = layout_of(tuple(sizes), x.device).starts
        with torch.cuda.device_of(x):
            walk_kernel[grid](x, codes, codebooks, starts, quantized, partial, N, D, L, **shape)
    sums = partial.sum(dim=0)
    return quantized, sums[:L], sums[L]


def residual_losses_backward(
    x: Tensor,
    codebooks: Tensor,
    sizes: list[int],
    codes: Tensor,
    errors: Tensor,
    grad_quantized: Tensor,
    weights: Tensor,
) -> tuple[Tensor, Tensor]:
    """errors [L], weights [3, L] float64 -> gradients of x [N, D] and of codebooks [ΣK, D]"""
    N, D = x.shape
    L = len(sizes)
    grad_x = torch.empty_like(x)
    if N == 0:
        return grad_x, torch.zeros_like(codebooks)
    grad_codebooks = torch.empty_like(codebooks)
    layout = layout_of(tuple(sizes), x.device)
    sums = torch.zeros(codebooks.shape, dtype=torch.int64, device=x.device)
    shape = walk_shape(D)
    grid = triton.cdiv(N, shape["BLOCK_N"]), triton.cdiv(D, shape["BLOCK_D"])
    with torch.cuda.device_of(x):
        scatter_kernel[grid](
            x,
            codes,
            codebooks,
            layout.starts,
            grad_quantized,
            weights,
            errors,
            grad_x,
            sums,
            N,
            D,
            L,
            **shape,
        )
        unscale_kernel[(len(codebooks),)](
            sums,
            layout.level,
            weights,
            errors,
            grad_codebooks,
            N,
            len(codebooks),
            D,
            L,
            BLOCK_D=shape["BLOCK_D"],
        )
    return grad_x, grad_codebooks
