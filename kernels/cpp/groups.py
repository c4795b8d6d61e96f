"""A request about rows in groups: what distinct_codes and spill_codes share."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from .library import call


class GroupsRequest(ctypes.Structure):
    """The struct of this name in groups.h."""

    _fields_ = [
        ("x", ctypes.c_void_p),
        ("codebook", ctypes.c_void_p),
        ("starts", ctypes.c_void_p),
        ("home", ctypes.c_void_p),
        ("rank", ctypes.c_void_p),
        ("taken", ctypes.c_void_p),
        ("taken_starts", ctypes.c_void_p),
        ("codes", ctypes.c_void_p),
        ("groups", ctypes.c_int64),
        ("rows", ctypes.c_int64),
        ("taken_count", ctypes.c_int64),
        ("words", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("capacity", ctypes.c_int64),
        ("threads", ctypes.c_int32),
        ("instruction_set", ctypes.c_int32),
    ]


def solve(
    entry: str,
    x: Tensor,
    codebook: Tensor,
    starts: Tensor,
    home: Tensor,
    rank: Tensor,
    taken: Tensor,
    taken_starts: Tensor,
    capacity: int = 1,
) -> Tensor:
    """The codes [R] that the library's function `entry` gives.

    Raises:
        MemoryError: the distances of a group could not be allocated.
        ValueError: no groups, codes outside the codebook, too few codes, or NaN or Inf.
    """
    codes = torch.empty_like(home)
    request = GroupsRequest(
        x=x.data_ptr(),
        codebook=codebook.data_ptr(),
        starts=starts.data_ptr(),
        home=home.data_ptr(),
        rank=rank.data_ptr(),
        taken=taken.data_ptr(),
        taken_starts=taken_starts.data_ptr(),
        codes=codes.data_ptr(),
        groups=len(starts) - 1,
        rows=len(x),
        taken_count=len(taken),
        words=codebook.shape[0],
        width=codebook.shape[1],
        capacity=capacity,
        threads=torch.get_num_threads(),
    )
    call(entry, request, "the distances of the groups")
    return codes
