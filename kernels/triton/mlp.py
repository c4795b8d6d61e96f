"""Linear layers with ReLU between them, and all of their gradients (kernels/reference/mlp.py).

A layer of many weights is a product of PyTorch's, one launch with its bias and ReLU; its time is
that of its arithmetic. Layers of few weights, one after the other, are launches and little else:

    layers_kernel    runs of such layers, forward or backward: a program takes its rows through all
                     of them. Backward, also one layer of many weights: no product of PyTorch's
                     knows ReLU's slope.
    sums_kernel      ∂W of layers of few weights, and every ∂b: a program a tile of ∂W

In:  x, slopes [N, w_0], weights [w_i, w_{i−1}], biases [w_i] float32 contiguous.
Out: outputs, or slopes of inputs, [N, w_i]; ∂W, ∂b; float32. No sum depends on an order.
Products are float32 in value, or TF32 ones where PyTorch's may be (torch.backends.cuda.matmul).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from .tiles import MANY_WEIGHTS, architecture, layers_options, sums_options


@triton.jit
def one_layer(
    source,
    weight,
    beside,
    output,
    row,
    N,
    D: tl.constexpr,
    K: tl.constexpr,
    RECTIFIED: tl.constexpr,
    FORWARD: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """The program's rows of output [N, K] = source [N, D] times W."""
    live = (row < N)[:, None]
    for k0 in range(tl.program_id(1) * BLOCK_K, K, tl.num_programs(1) * BLOCK_K):
        k = k0 + tl.arange(0, BLOCK_K)
        out = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
        for d0 in range(0, D, BLOCK_D):
            d = d0 + tl.arange(0, BLOCK_D)
            place = source + row[:, None] * D + d[None, :]
            a = tl.load(place, mask=live & (d < D)[None, :], other=0.0)
            if FORWARD:
                place = weight + k[:, None] * D + d[None, :]
                inside = (k < K)[:, None] & (d < D)[None, :]
                w = tl.trans(tl.load(place, mask=inside, other=0.0))
            else:
                place = weight + d[:, None] * K + k[None, :]
                inside = (d < D)[:, None] & (k < K)[None, :]
                w = tl.load(place, mask=inside, other=0.0)
            out = tl.dot(a, w, out, input_precision=PRECISION)
        at = row[:, None] * K + k[None, :]
        inside = live & (k < K)[None, :]
        if FORWARD:
            out += tl.load(beside + k, mask=k < K, other=0.0)[None, :]
            if RECTIFIED:
                out = tl.where(out <= 0, 0.0, out)  # NaN stays
        elif RECTIFIED:
            out = tl.where(tl.load(beside + at, mask=inside, other=0.0) > 0, out, 0.0)
        tl.store(output + at, out, mask=inside)


@triton.jit(do_not_specialize=["N"])
def layers_kernel(
    x,
    weights,
    beside,
    outputs,
    N,
    WIDTHS: tl.constexpr,
    RECTIFIED: tl.constexpr,
    FORWARD: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """From WIDTHS[i] columns to WIDTHS[i + 1], step by step.

    Forward `beside` are biases, and RECTIFIED steps end in ReLU. Backward they are the layers'
    inputs, and the slopes of RECTIFIED ones are 0 where these are.
    """
    row = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    for step in tl.static_range(len(RECTIFIED)):
        source = x
        if step > 0:
            source = outputs[step - 1]
            tl.debug_barrier()  # it reads what other threads have written
        one_layer(
            source,
            weights[step],
            beside[step],
            outputs[step],
            row,
            N,
            WIDTHS[step],
            WIDTHS[step + 1],
            RECTIFIED[step],
            FORWARD,
            PRECISION,
            BLOCK_N,
            BLOCK_K,
            BLOCK_D,
        )


@triton.jit
def one_sum(
    slopes,
    inputs,
    grad_weight,
    grad_bias,
    tile,
    N,
    K: tl.constexpr,
    D: tl.constexpr,
    ACROSS: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """A tile of ∂W [K, D], which has ACROSS of them side by side; the first ones' rows of ∂b."""
    k = tile // ACROSS * BLOCK_K + tl.arange(0, BLOCK_K)
    d = tile % ACROSS * BLOCK_D + tl.arange(0, BLOCK_D)
    weight = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)
    bias = tl.zeros([BLOCK_K], tl.float32)
    for n0 in range(0, N, BLOCK_N):
        n = (n0 + tl.arange(0, BLOCK_N)).to(tl.int64)
        inside = (n < N)[:, None] & (k < K)[None, :]
        slope = tl.load(slopes + n[:, None] * K + k[None, :], mask=inside, other=0.0)
        bias += tl.sum(slope, axis=0)
        if D > 0:
            inside = (n < N)[:, None] & (d < D)[None, :]
            a = tl.load(inputs + n[:, None] * D + d[None, :], mask=inside, other=0.0)
            weight = tl.dot(tl.trans(slope), a, weight, input_precision=PRECISION)
    if D > 0:
        place = grad_weight + k[:, None] * D + d[None, :]
        tl.store(place, weight, mask=(k < K)[:, None] & (d < D)[None, :])
    tl.store(grad_bias + k, bias, mask=(k < K) & (tile % ACROSS == 0))


@triton.jit(do_not_specialize=["N"])
def sums_kernel(
    slopes,
    inputs,
    grad_weights,
    grad_biases,
    N,
    OUT: tl.constexpr,
    IN: tl.constexpr,
    TILES: tl.constexpr,
    ACROSS: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """∂W [OUT[i], IN[i]] and ∂b [OUT[i]] of TILES[i] programs; ∂b alone where IN[i] is 0."""
    tile = tl.program_id(0)
    for layer in tl.static_range(len(OUT)):
        if (tile >= 0) & (tile < TILES[layer]):
            one_sum(
                slopes[layer],
                inputs[layer],
                grad_weights[layer],
                grad_biases[layer],
                tile,
                N,
                OUT[layer],
                IN[layer],
                ACROSS[layer],
                PRECISION,
                BLOCK_N,
                BLOCK_K,
                BLOCK_D,
            )
        tile -= TILES[layer]


def mlp(x: Tensor, weights: list[Tensor], biases: list[Tensor]) -> list[Tensor]:
    """x [N, w_0], weights [w_i, w_{i−1}], biases [w_i] float32 -> outputs [N, w_i]"""
    outputs: list[Tensor] = []
    for run in _runs(weights):
        source = outputs[-1] if outputs else x
        rectified = [layer < len(weights) - 1 for layer in run]
        if _many(weights[run[0]]):
            product = torch._addmm_activation if rectified[0] else torch.addmm
            outputs.append(product(biases[run[0]], source, weights[run[0]].T))
        else:
            own = [weights[layer] for layer in run]
            outputs += _run(source, own, [biases[layer] for layer in run], rectified, True)
    return outputs


def mlp_backward(
    grad: Tensor, x: Tensor, outputs: list[Tensor], weights: list[Tensor], with_x: bool
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """grad [N, w_n] -> gradients of x [N or 0, w_0], of weights and of biases"""
    inputs, slopes, grad_x = [x, *outputs[:-1]], [grad], x.new_empty((0, x.shape[1]))
    for run in reversed(_runs(weights)):
        layers = [layer for layer in reversed(run) if layer > 0 or with_x]
        if layers:
            own, gates = ([of[layer] for layer in layers] for of in (weights, inputs))
            found = _run(slopes[0], own, gates, [layer > 0 for layer in layers], False)
            slopes = [*reversed(found), *slopes]
    if with_x:
        grad_x, *slopes = slopes
    return grad_x, *_sums(slopes, inputs, weights)


def _run(
    x: Tensor,
    weights: list[Tensor],
    beside: list[Tensor],
    rectified: list[bool],
    forward: bool,
) -> list[Tensor]:
    """The outputs of layers_kernel."""
    widths = [x.shape[1], *(weight.shape[0 if forward else 1] for weight in weights)]
    outputs = [x.new_empty((len(x), width)) for width in widths[1:]]
    many = _many(weights[0])
    options = layers_options(many, architecture(x.device))
    across = triton.cdiv(widths[1], options["BLOCK_K"]) if many else 1
    with torch.cuda.device_of(x):
        layers_kernel[triton.cdiv(len(x), options["BLOCK_N"]), across](
            x,
            tuple(weights),
            tuple(beside),
            tuple(outputs),
            len(x),
            WIDTHS=tuple(widths),
            RECTIFIED=tuple(rectified),
            FORWARD=forward,
            PRECISION=_precision(),
            **options,
        )
    return outputs


def _sums(
    slopes: list[Tensor], inputs: list[Tensor], weights: list[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """The gradients of weights and of biases."""
    grad_biases = [slope.new_empty(slope.shape[1]) for slope in slopes]
    grad_weights = [
        slope.T @ a if _many(weight) else torch.empty_like(weight)
        for slope, a, weight in zip(slopes, inputs, weights)
    ]
    options = sums_options()
    few = [0 if _many(weight) else weight.shape[1] for weight in weights]
    across = [max(1, triton.cdiv(width, options["BLOCK_D"])) for width in few]
    down = [triton.cdiv(len(weight), options["BLOCK_K"]) for weight in weights]
    tiles = [a * b for a, b in zip(across, down)]
    with torch.cuda.device_of(slopes[0]):
        sums_kernel[sum(tiles),](
            tuple(slopes),
            tuple(inputs),
            tuple(grad_weights),
            tuple(grad_biases),
            len(slopes[0]),
            OUT=tuple(map(len, weights)),
            IN=tuple(few),
            TILES=tuple(tiles),
            ACROSS=tuple(across),
            PRECISION=_precision(),
            **options,
        )
    return grad_weights, grad_biases


def _runs(weights: Sequence[Tensor]) -> list[list[int]]:
    """Layers that go together: neighbours of few weights, one of many alone."""
    runs: list[list[int]] = []
    for layer, weight in enumerate(weights):
        if runs and not _many(weight) and not _many(weights[layer - 1]):
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return runs


def _many(weight: Tensor) -> bool:
    return weight.numel() > MANY_WEIGHTS


def _precision() -> str:
    """Of `tl.dot`: what PyTorch's own products of float32 matrices may do."""
    tf32 = torch.backends.cuda.matmul.allow_tf32 and not torch.version.hip
    return "tf32" if tf32 else "ieee"
