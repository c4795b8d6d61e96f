"""The uniform mapping of each group of rows: sinkhorn_codes.cpp does it."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from .library import call


class SinkhornRequest(ctypes.Structure):
    """The struct of this name in sinkhorn_codes_entry.cpp."""

    _fields_ = [
        ("x", ctypes.c_void_p),
        ("rows", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("codebook", ctypes.c_void_p),
        ("words", ctypes.c_int64),
        ("starts", ctypes.c_void_p),
        ("groups", ctypes.c_int64),
        ("epsilon", ctypes.c_double),
        ("sweeps", ctypes.c_int64),
        ("codes", ctypes.c_void_p),
        ("threads", ctypes.c_int32),
        ("instruction_set", ctypes.c_int32),
    ]


def sinkhorn_codes(
    x: Tensor, codebook: Tensor, starts: Tensor, epsilon: float, sweeps: int
) -> Tensor:
    """x [N, D], codebook [K, D] float32, starts [G + 1] int64 -> codes [N] int64

    Scratch: n·K float64 for the largest group of n rows, and 2 MB a thread at K = 1024 for those
    of at most 256 rows.
    Raises:
        MemoryError: the scratch could not be allocated.
    """
    codes = x.new_empty(len(x), dtype=torch.int64)
    rows = x.float().contiguous()  # nothing beside the K·sweeps operations that follow
    request = SinkhornRequest(
        x=rows.data_ptr(),
        rows=len(rows),
        width=rows.shape[1],
        codebook=codebook.data_ptr(),
        words=len(codebook),
        starts=starts.data_ptr(),
        groups=len(starts) - 1,
        epsilon=epsilon,
        sweeps=sweeps,
        codes=codes.data_ptr(),
        threads=torch.get_num_threads(),
    )
    call("lf_sinkhorn_codes", request, "the Sinkhorn plan of a group")
    return codes
