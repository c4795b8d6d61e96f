"""`nearest` where an earlier answer is known: the reference searches all the same."""

from __future__ import annotations

import torch
from torch import Tensor

from ..refusals import check_codes
from .nearest import distinct_codewords, nearest_two


def nearest_bounded(
    x: Tensor, codebook: Tensor, codes: Tensor, bounds: Tensor, movement: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`nearest`, where the answer for an earlier codebook may spare the search.

    codes were the nearest codewords then (−1: not known), no other codeword was nearer to row i
    than bounds_i, and codeword k has since moved by at most movement_k.

    x [N, D], codebook [K, D] float32, codes [N] int64, bounds [N], movement [K] float32
    -> code [N] int64, score [N] float64, lower [N] float32: what bounds will be for the next
       call; 0 promises nothing
    """
    check_codes(codes[:, None], [len(codebook)])
    code, score, other = nearest_two(x, codebook, None)
    if len(distinct_codewords(codebook)) < len(codebook):
        return code, score, torch.zeros_like(bounds)
    return code, score, (other.sqrt() * (1 - 2.0**-20)).float().nan_to_num(0.0, posinf=torch.inf)
