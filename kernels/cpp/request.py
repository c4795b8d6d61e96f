"""A search request from tensors: what the three entry points share."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from .library import SearchRequest

# Codes of `enum class Element`.
ELEMENTS = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}


def request(
    x: Tensor, codebooks: Tensor, sizes: list[int], offset: Tensor | None, codes: Tensor
) -> SearchRequest:
    """Inputs and codes; whoever asks adds the other outputs. The tensors must outlive the call."""
    return SearchRequest(
        x=x.data_ptr(),
        rows=x.shape[0],
        width=x.shape[1],
        row_stride=x.stride(0),
        column_stride=x.stride(1),
        element=ELEMENTS[x.dtype],
        codebooks=codebooks.data_ptr(),
        offset=offset.data_ptr() if offset is not None else None,
        sizes=(ctypes.c_int64 * len(sizes))(*sizes),
        levels=len(sizes),
        beam=1,
        codes=codes.data_ptr(),
        threads=torch.get_num_threads(),
    )
