"""Sums of the rows of each code, in integers: code_sums.cpp does it."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from .library import call
from .request import ELEMENTS


class _Request(ctypes.Structure):
    """CodeSumsRequest of code_sums_entry.cpp."""

    _fields_ = [
        ("x", ctypes.c_void_p),
        ("rows", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("row_stride", ctypes.c_int64),
        ("column_stride", ctypes.c_int64),
        ("codes", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("scale", ctypes.c_double),
        ("sums", ctypes.c_void_p),
        ("counts", ctypes.c_void_p),
        ("element", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        ("instruction_set", ctypes.c_int32),
    ]


def code_sums(x: Tensor, codes: Tensor, count: int, exponent: int) -> tuple[Tensor, Tensor]:
    """x [N, D], codes [N] int64 < count, −1 for nowhere -> sums [count, D], counts [count] int64"""
    codes = codes.contiguous()
    sums = x.new_zeros((count, x.shape[1]), dtype=torch.int64)
    counts = x.new_zeros(count, dtype=torch.int64)
    request = _Request(
        x=x.data_ptr(),
        rows=x.shape[0],
        width=x.shape[1],
        row_stride=x.stride(0),
        column_stride=x.stride(1),
        codes=codes.data_ptr(),
        count=count,
        scale=2.0**exponent,
        sums=sums.data_ptr(),
        counts=counts.data_ptr(),
        element=ELEMENTS[x.dtype],
        threads=torch.get_num_threads(),
    )
    call("lf_code_sums", request, "the sums of each thread")
    return sums, counts
