"""The uniform mapping: codes of a group of rows that use the codewords about equally often.

Q ∝ exp(−d̃/ε) between n rows and K codewords after `sweeps` times making its rows sum to 1/n and
then its columns to 1/K (Sinkhorn–Knopp); d̃ are the squared distances of the group, centred by their
mid-range and divided by their half-range plus 1e-5, as in LETTER's and LC-Rec's public code. The
code is the arg-max of a row of Q: even use is encouraged, not promised. In the log domain, as Q
itself underflows for small ε.

Equal entries of a row (one row alone has nothing else) are told apart by rounding at most. So
values of log Q within 2⁻⁴²(1 + max d/(half-range·ε)) of the largest are equal to it, and the lowest index
among them is the code.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinkhorn_codes(
    x: Tensor, codebook: Tensor, starts: Tensor, epsilon: float, sweeps: int
) -> Tensor:
    """x [N, D], codebook [K, D] float32, starts [G + 1] int64: group g is rows starts[g]:starts[g+1]
    -> codes [N] int64; −1 for a row with NaN or Inf, which is no part of its group
    """
    x = x.float()
    words = codebook.isfinite().all(dim=1).nonzero().squeeze(1)
    codes = x.new_full((len(x),), -1, dtype=torch.int64)
    for group in torch.arange(len(x), device=x.device).tensor_split(starts[1:-1].cpu()):
        rows = group[x[group].isfinite().all(dim=1)]
        if len(rows) and len(words):
            codes[rows] = words[_codes_of_group(x[rows], codebook[words], epsilon, sweeps)]
    return codes


def _codes_of_group(x: Tensor, codebook: Tensor, epsilon: float, sweeps: int) -> Tensor:
    distance = _squared_distances(x.double(), codebook.double())
    middle = (distance.max() + distance.min()) / 2
    scale = (distance.max() - middle + 1e-5) * epsilon
    log_plan = (middle - distance) / scale
    rows, words = math.log(len(x)), math.log(len(codebook))
    for _ in range(sweeps):
        log_plan = log_plan - log_plan.logsumexp(dim=1, keepdim=True) - rows
        log_plan = log_plan - log_plan.logsumexp(dim=0, keepdim=True) - words
    tie = 2.0**-42 * (1.0 + distance.max() / scale)
    enough = log_plan.max(dim=1, keepdim=True).values - tie
    return (log_plan >= enough).int().argmax(dim=1)  # the first


def _squared_distances(x: Tensor, codebook: Tensor) -> Tensor:
    """By differences: no cancellation. x [n, D], codebook [K, D] float64 -> [n, K]"""
    distance = torch.cdist(x, codebook, compute_mode="donot_use_mm_for_euclid_dist")
    return distance.square()
