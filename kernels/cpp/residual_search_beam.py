"""The best of `beam` partial paths: residual_search_beam.cpp does it."""

from __future__ import annotations

import torch
from torch import Tensor

from .library import search
from .request import request
from .residual_search import residual_search


def residual_search_beam(
    x: Tensor, codebooks: Tensor, sizes: list[int], beam: int
) -> tuple[Tensor, Tensor]:
    """x [N, D], codebooks [ΣK, D] float32 -> codes [N, L] int64, quantized [N, D] float32"""
    if beam == 1:
        return residual_search(x, codebooks, sizes)[:2]
    codes = x.new_empty((len(x), len(sizes)), dtype=torch.int64)
    asked = request(x, codebooks, sizes, None, codes)
    asked.beam = beam
    search(asked)
    return codes, _sum_of_codewords(codes, codebooks, sizes)


def _sum_of_codewords(codes: Tensor, codebooks: Tensor, sizes: list[int]) -> Tensor:
    """In level order, as float32; 0 where the codes are −1."""
    total = codebooks.new_zeros((len(codes), codebooks.shape[1]))
    for table, code in zip(codebooks.split(sizes), codes.unbind(1)):
        total += torch.where(code[:, None] < 0, 0.0, table[code.clamp(min=0)])
    return total
