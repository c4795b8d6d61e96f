"""`nearest`, but for the rows whose codeword is proven to be the nearest still."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from .library import call, search
from .request import ELEMENTS, request


class _StillRequest(ctypes.Structure):
    """StillRequest of still_nearest_entry.cpp."""

    _fields_ = [
        ("x", ctypes.c_void_p),
        ("rows", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("row_stride", ctypes.c_int64),
        ("column_stride", ctypes.c_int64),
        ("codebook", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("codes", ctypes.c_void_p),
        ("bounds", ctypes.c_void_p),
        ("movement", ctypes.c_void_p),
        ("kept", ctypes.c_void_p),
        ("scores", ctypes.c_void_p),
        ("lower", ctypes.c_void_p),
        ("element", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        ("instruction_set", ctypes.c_int32),
    ]


def nearest_again(
    x: Tensor, codebook: Tensor, codes: Tensor, bounds: Tensor, movement: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """x [N, D], codebook [K, D] float32, codes [N] int64, bounds [N] and movement [K] float32
    -> code [N] int64, score [N] float64, lower [N] float32
    """
    code = codes.clone(memory_format=torch.contiguous_format)
    bounds, movement = bounds.contiguous(), movement.contiguous()
    score = x.new_empty(len(x), dtype=torch.float64)
    lower = x.new_zeros(len(x), dtype=torch.float32)
    kept = x.new_empty(len(x), dtype=torch.bool)
    asked = _StillRequest(
        x=x.data_ptr(),
        rows=x.shape[0],
        width=x.shape[1],
        row_stride=x.stride(0),
        column_stride=x.stride(1),
        codebook=codebook.data_ptr(),
        count=len(codebook),
        codes=code.data_ptr(),
        bounds=bounds.data_ptr(),
        movement=movement.data_ptr(),
        kept=kept.data_ptr(),
        scores=score.data_ptr(),
        lower=lower.data_ptr(),
        element=ELEMENTS[x.dtype],
        threads=torch.get_num_threads(),
    )
    call("lf_still_nearest", asked, "a copy of the codebook")

    open_rows = (~kept).nonzero().squeeze(1)
    rest = request(x, codebook, [len(codebook)], None, code)
    rest.scores, rest.lower = score.data_ptr(), lower.data_ptr()
    rest.rows, rest.index = len(open_rows), open_rows.data_ptr()
    search(rest)
    return code, score, lower
