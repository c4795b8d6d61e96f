"""Loss terms of residual quantization and their gradients: residual_losses.cpp does it."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from .library import call


class ResidualLossesRequest(ctypes.Structure):
    """The struct of this name in residual_losses_entry.cpp."""

    _fields_ = [
        ("x", ctypes.c_void_p),
        ("rows", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("codebooks", ctypes.c_void_p),
        ("sizes", ctypes.POINTER(ctypes.c_int64)),
        ("levels", ctypes.c_int64),
        ("codes", ctypes.c_void_p),
        ("quantized", ctypes.c_void_p),
        ("errors", ctypes.c_void_p),
        ("counted", ctypes.c_void_p),
        ("grad_quantized", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("grad_x", ctypes.c_void_p),
        ("grad_codebooks", ctypes.c_void_p),
        ("threads", ctypes.c_int32),
        ("instruction_set", ctypes.c_int32),
    ]


def residual_losses(
    x: Tensor, codebooks: Tensor, sizes: list[int], codes: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """x [N, D], codebooks [ΣK, D] float32, codes [N, L] int64
    -> quantized [N, D] float32, errors [L] float64, counted [] int64
    """
    quantized = torch.empty_like(x)
    errors = torch.empty(len(sizes), dtype=torch.float64)
    counted = torch.empty((), dtype=torch.int64)
    request = _request(x, codebooks, sizes, codes)
    request.quantized = quantized.data_ptr()
    request.errors = errors.data_ptr()
    request.counted = counted.data_ptr()
    call("lf_residual_losses", request, "the residual of a row")
    return quantized, errors, counted


def residual_losses_backward(
    x: Tensor,
    codebooks: Tensor,
    sizes: list[int],
    codes: Tensor,
    errors: Tensor,
    grad_quantized: Tensor,
    weights: Tensor,
) -> tuple[Tensor, Tensor]:
    """errors [L] (not needed here), weights [3, L] float64: to_x, own, later
    -> gradients of x [N, D] and of codebooks [ΣK, D]
    """
    grad_x, grad_codebooks = torch.empty_like(x), torch.empty_like(codebooks)
    request = _request(x, codebooks, sizes, codes)
    request.grad_quantized = grad_quantized.data_ptr()
    request.weights = weights.data_ptr()
    request.grad_x = grad_x.data_ptr()
    request.grad_codebooks = grad_codebooks.data_ptr()
    call("lf_residual_losses", request, "the sums of each codeword")
    return grad_x, grad_codebooks


def _request(
    x: Tensor, codebooks: Tensor, sizes: list[int], codes: Tensor
) -> ResidualLossesRequest:
    return ResidualLossesRequest(
        x=x.data_ptr(),
        rows=x.shape[0],
        width=x.shape[1],
        codebooks=codebooks.data_ptr(),
        sizes=(ctypes.c_int64 * len(sizes))(*sizes),
        levels=len(sizes),
        codes=codes.data_ptr(),
        threads=torch.get_num_threads(),
    )
