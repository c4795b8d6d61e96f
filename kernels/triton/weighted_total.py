"""LETTER's total of one step, and the slopes of its terms (kernels/reference/weighted_total.py).

In and out: numbers and one vector of a number a level, float32. One program; PyTorch would launch
a kernel for each sign of the formula.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit(do_not_specialize=["elements"])
def weighted_total_kernel(
    error,
    quantization,
    cf,
    diversity,
    total,
    recon,
    even,
    elements,
    w_rq,
    beta,
    alpha,
    MEAN: tl.constexpr,
    L: tl.constexpr,
    BLOCK_L: tl.constexpr,
):
    level = tl.arange(0, BLOCK_L)
    all_levels = tl.sum(tl.load(diversity + level, mask=level < L, other=0.0), axis=0)
    own_even = all_levels / L if MEAN else all_levels
    own_recon = tl.load(error) / elements.to(tl.float32)
    ours = w_rq * (tl.load(quantization) + beta * own_even)
    tl.store(total, own_recon + ours + alpha * tl.load(cf))
    tl.store(recon, own_recon)
    tl.store(even, own_even)


@triton.jit(do_not_specialize=["elements"])
def weighted_slopes_kernel(
    total,
    recon,
    even,
    error,
    quantization,
    cf,
    diversity,
    elements,
    w_rq,
    beta,
    alpha,
    GIVEN: tl.constexpr,
    MEAN: tl.constexpr,
    L: tl.constexpr,
    BLOCK_L: tl.constexpr,
):
    """GIVEN: which slopes of total, recon and even there are."""
    slope = tl.full([], 0.0, tl.float32)
    if GIVEN[0]:
        slope += tl.load(total)
    of_error = slope
    if GIVEN[1]:
        of_error += tl.load(recon)
    ours = w_rq * slope
    of_even = beta * ours
    if GIVEN[2]:
        of_even += tl.load(even)
    tl.store(error, of_error / elements.to(tl.float32))
    tl.store(quantization, ours)
    tl.store(cf, alpha * slope)
    level = tl.arange(0, BLOCK_L)
    each = of_even / L if MEAN else of_even
    tl.store(diversity + level, tl.zeros([BLOCK_L], tl.float32) + each, mask=level < L)


def weighted_total(
    error: Tensor,
    quantization: Tensor,
    cf: Tensor,
    diversity: Tensor,
    elements: int,
    weights: list[float],
    mean: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """error, quantization, cf [], diversity [L] float32 -> total, recon, diversity []"""
    found = error.new_empty(()), error.new_empty(()), error.new_empty(())
    terms = (error, quantization, cf, diversity.contiguous())
    with torch.cuda.device_of(error):
        weighted_total_kernel[1,](
            *terms, *found, elements, *weights, **_options(len(diversity), mean)
        )
    return found


def weighted_total_backward(
    slopes: list[Tensor | None],
    like: Tensor,
    elements: int,
    weights: list[float],
    mean: bool,
    levels: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """slopes [] or None -> of error, quantization, cf [] and diversity [L]"""
    error, quantization, cf = (like.new_empty(()) for _ in range(3))
    found = error, quantization, cf, like.new_empty(levels)
    with torch.cuda.device_of(like):
        weighted_slopes_kernel[1,](
            *(like if slope is None else slope for slope in slopes),
            *found,
            elements,
            *weights,
            GIVEN=tuple(slope is not None for slope in slopes),
            **_options(levels, mean),
        )
    return found


def _options(levels: int, mean: bool) -> dict[str, int | bool]:
    return {
        "MEAN": mean,
        "L": levels,
        "BLOCK_L": triton.next_power_of_2(levels),
        "num_warps": 1,
    }
