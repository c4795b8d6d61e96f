"""Size-constrained k-means: balanced.cpp does it, problems side by side or threads within one."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from .library import call


class _Request(ctypes.Structure):
    """`BalancedRequest` of balanced_entry.cpp."""

    _fields_ = [
        ("x", ctypes.c_void_p),
        ("problems", ctypes.c_int64),
        ("rows", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("problem_stride", ctypes.c_int64),
        ("row_stride", ctypes.c_int64),
        ("column_stride", ctypes.c_int64),
        ("clusters", ctypes.c_int64),
        ("low", ctypes.c_void_p),
        ("high", ctypes.c_void_p),
        ("iterations", ctypes.c_int64),
        ("tolerance", ctypes.c_double),
        ("centroids", ctypes.c_void_p),
        ("labels", ctypes.c_void_p),
        ("prices", ctypes.c_void_p),
        ("cost", ctypes.c_void_p),
        ("bound", ctypes.c_void_p),
        ("exponent", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        ("instruction_set", ctypes.c_int32),
    ]


def balanced_lloyd(
    x: Tensor,
    centroids: Tensor,
    low: Tensor,
    high: Tensor,
    iterations: int,
    tolerance: float,
    exponent: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x [P, N, D], centroids [P, K, D] float32, low and high [K] int64
    -> centroids [P, K, D] float32, labels [P, N] int64, cost and bound [P] float64
    """
    return priced_lloyd(x, centroids, low, high, iterations, tolerance, exponent)[:4]


def priced_lloyd(
    x: Tensor,
    centroids: Tensor,
    low: Tensor,
    high: Tensor,
    iterations: int,
    tolerance: float,
    exponent: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """As `balanced_lloyd`, with the prices [P, K] float64 that prove the bounds."""
    problems, rows, width = x.shape
    clusters = centroids.shape[1]
    centroids = centroids.clone(memory_format=torch.contiguous_format)
    labels = torch.empty(problems, rows, dtype=torch.int64)
    cost = torch.empty(problems, dtype=torch.float64)
    bound = torch.empty_like(cost)
    prices = torch.empty(problems, clusters, dtype=torch.float64)
    request = _Request(
        x=x.data_ptr(),
        problems=problems,
        rows=rows,
        width=width,
        problem_stride=x.stride(0),
        row_stride=x.stride(1),
        column_stride=x.stride(2),
        clusters=clusters,
        low=low.data_ptr(),
        high=high.data_ptr(),
        iterations=iterations,
        tolerance=tolerance,
        centroids=centroids.data_ptr(),
        labels=labels.data_ptr(),
        prices=prices.data_ptr(),
        cost=cost.data_ptr(),
        bound=bound.data_ptr(),
        exponent=exponent,
        threads=torch.get_num_threads(),
    )
    call("lf_balanced_lloyd", request, "the arcs of the assignment")
    return centroids, labels, cost, bound, prices
