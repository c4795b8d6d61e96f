"""k-means++ starts: plus_plus.cpp draws them, problems side by side."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from .library import INSTRUCTION_SETS, instruction_set, load


class _Request(ctypes.Structure):
    """`PlusPlusRequest` of plus_plus_entry.cpp."""

    _fields_ = [
        ("x", ctypes.c_void_p),
        ("problems", ctypes.c_int64),
        ("rows", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("problem_stride", ctypes.c_int64),
        ("row_stride", ctypes.c_int64),
        ("column_stride", ctypes.c_int64),
        ("picks", ctypes.c_int64),
        ("draws", ctypes.c_void_p),
        ("picked", ctypes.c_void_p),
        ("threads", ctypes.c_int32),
        ("instruction_set", ctypes.c_int32),
    ]


def plus_plus(x: Tensor, draws: Tensor) -> Tensor:
    """x [P, N, D] float32, draws [P, K] float64 -> rows [P, K] int64"""
    problems, rows, width = x.shape
    draws = draws.contiguous()
    picked = torch.empty(draws.shape, dtype=torch.int64)
    request = _Request(
        x=x.data_ptr(),
        problems=problems,
        rows=rows,
        width=width,
        problem_stride=x.stride(0),
        row_stride=x.stride(1),
        column_stride=x.stride(2),
        picks=draws.shape[1],
        draws=draws.data_ptr(),
        picked=picked.data_ptr(),
        threads=torch.get_num_threads(),
        instruction_set=INSTRUCTION_SETS.index(instruction_set()),
    )
    if load().lf_plus_plus(ctypes.byref(request)):
        raise MemoryError("letter-fast: not enough memory for a copy of the rows")
    return picked
