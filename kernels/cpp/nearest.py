"""code = argmin_k ‖x − e_k‖² + offset_k: a residual search of one level that keeps the score."""

from __future__ import annotations

import torch
from torch import Tensor

from .library import search
from .request import request


def nearest(x: Tensor, codebook: Tensor, offset: Tensor | None) -> tuple[Tensor, Tensor]:
    """x [N, D], codebook [K, D] float32, offset [K] float64 -> code [N] int64, score [N] float64"""
    code = x.new_empty(len(x), dtype=torch.int64)
    score = x.new_empty(len(x), dtype=torch.float64)
    asked = request(x, codebook, [len(codebook)], offset, code)
    asked.scores = score.data_ptr()
    search(asked)
    return code, score
