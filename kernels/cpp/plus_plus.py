"""Greedy k-means++: plus_plus.cpp weighs the tries, problems side by side or threads within one."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from .library import call


class _Request(ctypes.Structure):
    """`PlusPlusRequest` of plus_plus_entry.cpp."""

    _fields_ = [
        ("points", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("problems", ctypes.c_int64),
        ("rows", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("problem_stride", ctypes.c_int64),
        ("row_stride", ctypes.c_int64),
        ("column_stride", ctypes.c_int64),
        ("picks", ctypes.c_int64),
        ("tries", ctypes.c_int64),
        ("draws", ctypes.c_void_p),
        ("picked", ctypes.c_void_p),
        ("threads", ctypes.c_int32),
        ("instruction_set", ctypes.c_int32),
    ]


def plus_plus(points: Tensor, weights: Tensor, draws: Tensor) -> Tensor:
    """points [P, N, D] float32 and weights [P, N] float64, integers; draws [P, K, T] float64
    -> picks [P, K] int64
    """
    problems, rows, width = points.shape
    weights, draws = weights.contiguous(), draws.contiguous()
    picked = torch.empty(draws.shape[:2], dtype=torch.int64)
    request = _Request(
        points=points.data_ptr(),
        weights=weights.data_ptr(),
        problems=problems,
        rows=rows,
        width=width,
        problem_stride=points.stride(0),
        row_stride=points.stride(1),
        column_stride=points.stride(2),
        picks=draws.shape[1],
        tries=draws.shape[2],
        draws=draws.data_ptr(),
        picked=picked.data_ptr(),
        threads=torch.get_num_threads(),
    )
    call("lf_plus_plus", request, "a copy of the points")
    return picked
