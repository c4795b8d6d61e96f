"""The diversity loss of all levels and its gradient: diversity_entry.cpp does it."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from .library import call


class DiversityRequest(ctypes.Structure):
    """The struct of this name in diversity_entry.cpp."""

    _fields_ = [
        ("codes", ctypes.c_void_p),
        ("rows", ctypes.c_int64),
        ("levels", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("codebooks", ctypes.c_void_p),
        ("sizes", ctypes.POINTER(ctypes.c_int64)),
        ("groups", ctypes.c_void_p),
        ("seed", ctypes.c_int64),
        ("losses", ctypes.c_void_p),
        ("gradient", ctypes.c_void_p),
        ("threads", ctypes.c_int32),
        ("instruction_set", ctypes.c_int32),
    ]


def diversity(
    codes: Tensor,
    codebooks: Tensor,
    sizes: list[int],
    groups: Tensor,
    seed: Tensor,
    with_gradient: bool,
) -> tuple[Tensor, Tensor]:
    """codes [B, L], codebooks [ΣK, D] float32, groups [ΣK] int64, seed [] int64
    -> losses [L], gradient [ΣK or 0, D] float32
    """
    losses = torch.empty(len(sizes), dtype=torch.float64)
    gradient = torch.empty_like(codebooks if with_gradient else codebooks[:0])
    request = DiversityRequest(
        codes=codes.data_ptr(),
        rows=codes.shape[0],
        levels=len(sizes),
        width=codebooks.shape[1],
        codebooks=codebooks.data_ptr(),
        sizes=(ctypes.c_int64 * len(sizes))(*sizes),
        groups=groups.data_ptr(),
        seed=int(seed),
        losses=losses.data_ptr(),
        gradient=gradient.data_ptr() if with_gradient else None,
        threads=torch.get_num_threads(),
    )
    call("lf_diversity", request, "the packed codewords")
    return losses.float(), gradient
