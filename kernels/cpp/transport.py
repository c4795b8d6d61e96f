"""A size-constrained assignment along arcs that a GPU has collected: transport.cpp, on the host."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from .library import call


class _Request(ctypes.Structure):
    """`TransportRequest` of transport_entry.cpp."""

    _fields_ = [
        ("rows", ctypes.c_int64),
        ("clusters", ctypes.c_int64),
        ("starts", ctypes.c_void_p),
        ("cluster", ctypes.c_void_p),
        ("arc_cost", ctypes.c_void_p),
        ("low", ctypes.c_void_p),
        ("high", ctypes.c_void_p),
        ("slack", ctypes.c_double),
        ("prices", ctypes.c_void_p),
        ("labels", ctypes.c_void_p),
        ("done", ctypes.c_void_p),
        ("threads", ctypes.c_int32),
    ]


class Transport(NamedTuple):
    """labels [N] int64, prices [K] float64; done: optimal along these arcs, else collect anew."""

    labels: Tensor
    prices: Tensor
    done: bool


def transport(
    starts: Tensor,
    clusters: Tensor,
    costs: Tensor,
    low: Tensor,
    high: Tensor,
    slack: float,
    prices: Tensor,
) -> Transport:
    """The cheapest assignment along arcs that were collected at `prices` with `slack`.

    starts [N + 1] int64, clusters [A] int32, costs [A] float64: row i's arcs, clusters ascending;
    low and high [K] int64, prices [K] float64; all contiguous and on the CPU. Rows with one arc may
    be left out, if low and high are less by how many of them each cluster has.
    """
    rows = len(starts) - 1
    prices = prices.clone()
    labels = torch.empty(rows, dtype=torch.int64)
    done = ctypes.c_bool()
    request = _Request(
        rows=rows,
        clusters=len(low),
        starts=starts.data_ptr(),
        cluster=clusters.data_ptr(),
        arc_cost=costs.data_ptr(),
        low=low.data_ptr(),
        high=high.data_ptr(),
        slack=slack,
        prices=prices.data_ptr(),
        labels=labels.data_ptr(),
        done=ctypes.addressof(done),
        threads=torch.get_num_threads(),
    )
    call("lf_transport", request, "the arcs of the assignment")
    return Transport(labels, prices, done.value)
