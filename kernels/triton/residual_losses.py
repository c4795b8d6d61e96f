"""The walk that codes describe, r_l = r_{l−1} − e_{c_l}, and what its losses need of it.

    forward     q = Σ_l e_{c_l},    error_l = Σ_i ‖r_l‖²
    backward    ∂x = ∂q + Σ_l to_x_l r_l
                ∂e_k = −Σ_{i: c_l = k} (own_l r_l + Σ_{m > l} later_m r_m)

In:  x, ∂q [N, D] float32 contiguous, codes [N, L] int64, codebooks [ΣK, D] float32,
     weights [3, L] and errors [L] float64.
Out: q, ∂x [N, D], ∂codebooks [ΣK, D] float32; parts [programs, L + 1] float64: a program's part of
     each error, and of the rows that are counted. terms_kernel adds them up and makes the losses of
     them; weights_kernel makes `weights` of the losses' slopes.
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
from .tiles import TERMS_PARTS, walk_shape


@triton.jit(do_not_specialize=["N", "L"])
def walk_kernel(
    x,
    codes,
    codebooks,
    starts,
    quantized,
    parts,
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
        tl.store(parts + program * (L + 1) + level, part)
    counted = tl.sum((valid & (tl.program_id(1) == 0)).to(tl.float64), axis=0)
    tl.store(parts + program * (L + 1) + L, counted)
    tl.store(quantized + at, total, mask=(row < N)[:, None] & (d < D)[None, :])


@triton.jit(do_not_specialize=["S", "D"])
def terms_kernel(
    parts,
    codebook,
    commitment,
    level,
    loss,
    errors,
    scale,
    S,
    D,
    commitment_weight,
    MEAN: tl.constexpr,
    WITH_CODEBOOK: tl.constexpr,
    L: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_L: tl.constexpr,
):
    at = tl.arange(0, BLOCK_L)
    inside = at < L
    total = tl.zeros([BLOCK_S, BLOCK_L], tl.float64)
    for s0 in range(0, S, BLOCK_S):
        s = s0 + tl.arange(0, BLOCK_S)
        mask = (s < S)[:, None] & (at <= L)[None, :]
        total += tl.load(parts + s[:, None] * (L + 1) + at[None, :], mask=mask, other=0.0)
    sums = tl.sum(total, axis=0)
    factor = tl.full([], 1.0, tl.float64)
    if MEAN:
        factor /= tl.maximum(tl.sum(tl.where(at == L, sums, 0.0), axis=0) * D, 1.0)
    term = (sums * factor).to(tl.float32)
    own = commitment_weight * term
    if WITH_CODEBOOK:
        own += term
    all_levels = tl.sum(tl.where(inside, own, 0.0), axis=0)
    tl.store(codebook + at, term, mask=inside)
    tl.store(commitment + at, term, mask=inside)
    tl.store(level + at, own, mask=inside)
    tl.store(loss, all_levels / L if MEAN else all_levels)
    tl.store(errors + at, sums, mask=inside)
    tl.store(scale, factor)


@triton.jit
def weights_kernel(
    codebook,
    commitment,
    level,
    loss,
    scale,
    weights,
    commitment_weight,
    GIVEN: tl.constexpr,
    RESIDUAL_GRAD: tl.constexpr,
    MEAN: tl.constexpr,
    WITH_CODEBOOK: tl.constexpr,
    L: tl.constexpr,
    BLOCK_L: tl.constexpr,
):
    """GIVEN: which of codebook, commitment, level and loss there are."""
    at = tl.arange(0, BLOCK_L)
    inside = at < L
    own = tl.zeros([BLOCK_L], tl.float32)
    moved = tl.zeros([BLOCK_L], tl.float32)
    each = tl.zeros([BLOCK_L], tl.float32)
    if GIVEN[0]:
        own += tl.load(codebook + at, mask=inside, other=0.0)
    if GIVEN[1]:
        moved += tl.load(commitment + at, mask=inside, other=0.0)
    if GIVEN[2]:
        each += tl.load(level + at, mask=inside, other=0.0)
    if GIVEN[3]:
        slope = tl.load(loss)
        each += slope / L if MEAN else slope
    moved += commitment_weight * each
    if WITH_CODEBOOK:
        own += each
    factor = 2 * tl.load(scale)
    own_64, moved_64 = own.to(tl.float64) * factor, moved.to(tl.float64) * factor
    later = tl.zeros([BLOCK_L], tl.float64)
    to_x = moved_64
    if RESIDUAL_GRAD == "straight_through":
        to_x = tl.where(at == 0, to_x, 0.0)
    if RESIDUAL_GRAD == "full":
        later = moved_64
    if RESIDUAL_GRAD == "aggregate":
        later = own_64
    tl.store(weights + at, to_x, mask=inside)
    tl.store(weights + L + at, own_64, mask=inside)
    tl.store(weights + 2 * L + at, later, mask=inside)


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
) -> tuple[Tensor, Tensor]:
    """x [N, D], codebooks [ΣK, D] float32, codes [N, L] int64
    -> quantized [N, D] float32, parts [programs, L + 1] float64
    """
    N, D = x.shape
    L = len(sizes)
    quantized = torch.empty_like(x)
    shape = walk_shape(D)
    grid = triton.cdiv(N, shape["BLOCK_N"]), triton.cdiv(D, shape["BLOCK_D"])
    parts = torch.empty((grid[0] * grid[1], L + 1), dtype=torch.float64, device=x.device)
    if N > 0:
        starts = layout_of(tuple(sizes), x.device).starts
        with torch.cuda.device_of(x):
            walk_kernel[grid](x, codes, codebooks, starts, quantized, parts, N, D, L, **shape)
    return quantized, parts


def residual_terms(
    parts: Tensor,
    width: int,
    mean: bool,
    commitment_weight: float,
    with_codebook: bool,
    like: Tensor,
) -> tuple[Tensor, ...]:
    """parts [S, L + 1] -> codebook, commitment, level [L], loss [] float32, errors [L], scale []"""
    S, L = len(parts), parts.shape[1] - 1
    terms = [like.new_empty(shape) for shape in ((L,), (L,), (L,), ())]
    errors, scale = parts.new_empty(L), parts.new_empty(())
    with torch.cuda.device_of(parts):
        terms_kernel[1,](
            parts,
            *terms,
            errors,
            scale,
            S,
            width,
            commitment_weight,
            MEAN=mean,
            WITH_CODEBOOK=with_codebook,
            L=L,
            BLOCK_S=TERMS_PARTS,
            BLOCK_L=triton.next_power_of_2(L + 1),
        )
    return *terms, errors, scale


def residual_weights(
    residual_grad: str,
    slopes: list[Tensor | None],
    scale: Tensor,
    levels: int,
    mean: bool,
    commitment_weight: float,
    with_codebook: bool,
) -> Tensor:
    """slopes: codebook, commitment, level [L], loss []; None: unused -> [3, L] float64"""
    weights = scale.new_empty((3, levels))
    with torch.cuda.device_of(scale):
        weights_kernel[1,](
            *(scale if slope is None else slope.contiguous() for slope in slopes),
            scale,
            weights,
            commitment_weight,
            GIVEN=tuple(slope is not None for slope in slopes),
            RESIDUAL_GRAD=residual_grad,
            MEAN=mean,
            WITH_CODEBOOK=with_codebook,
            L=levels,
            BLOCK_L=triton.next_power_of_2(levels),
        )
    return weights


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
