"""Mean in-batch InfoNCE without a [B, M] matrix: softmax.cpp does it."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from .library import call


class ContrastiveRequest(ctypes.Structure):
    """The struct of this name in contrastive_entry.cpp."""

    _fields_ = [
        ("q", ctypes.c_void_p),
        ("h", ctypes.c_void_p),
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("log_total", ctypes.c_void_p),
        ("loss", ctypes.c_void_p),
        ("gradient", ctypes.c_void_p),
        ("threads", ctypes.c_int32),
        ("instruction_set", ctypes.c_int32),
    ]


def contrastive(q: Tensor, h: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor, Tensor]:
    """q [B, D], h [M ≥ B, D] float32 -> loss [], log_total [B] float64, gradient [B or 0, D]"""
    loss = torch.empty((), dtype=torch.float64)
    log_total = torch.empty(len(q), dtype=torch.float64)
    gradient = torch.empty_like(q if with_gradient else q[:0])
    _run(q, h, log_total, gradient if with_gradient else None, loss)
    return loss.float(), log_total, gradient


def contrastive_gradient_h(q: Tensor, h: Tensor, log_total: Tensor) -> Tensor:
    """q [B, D], h [M, D] float32, log_total [B] float64 -> gradient of h [M, D]"""
    gradient = torch.empty_like(h)
    _run(q, h, log_total, gradient, None)
    return gradient


def _run(
    q: Tensor, h: Tensor, log_total: Tensor, gradient: Tensor | None, loss: Tensor | None
) -> None:
    request = ContrastiveRequest(
        q=q.data_ptr(),
        h=h.data_ptr(),
        rows=len(q),
        columns=len(h),
        width=q.shape[1],
        log_total=log_total.data_ptr(),
        loss=None if loss is None else loss.data_ptr(),
        gradient=None if gradient is None else gradient.data_ptr(),
        threads=torch.get_num_threads(),
    )
    call("lf_contrastive", request, "the packed rows")
