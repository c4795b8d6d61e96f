"""Uniform mapping: codes of a batch that use the codewords about equally often.

The entropic transport plan between B rows and K codewords with uniform marginals,
Q ∝ exp(−d̃/ε) after `sweeps` of Sinkhorn–Knopp, where d̃ are the squared distances centred by their
mid-range and divided by their half-range (plus 1e-5, as in LC-Rec's and LETTER's public code). The
code is the arg-max of a row: even use is encouraged, not promised. All in the log domain: Q itself
underflows at ε = 0.003.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from letter_fast import validation


@torch.no_grad()
def sinkhorn_codes(x: Tensor, codebook: Tensor, epsilon: float = 0.003, sweeps: int = 50) -> Tensor:
    """Codes of the whole batch at once; they depend on all its rows.

    x [N, D], codebook [K, D] -> [N] int64
    Raises:
        ValueError: epsilon is not above 0, sweeps below 1, or rows with NaN or Inf.
    """
    if not epsilon > 0 or sweeps < 1:
        raise ValueError(f"epsilon must be above 0 and sweeps at least 1, got {epsilon}, {sweeps}")
    table = validation.codebook(codebook).double()
    rows = validation.rows(x, table.shape[1])
    validation.finite_codes(rows.isfinite().all(dim=1).long() - 1)
    if len(rows) == 0:
        return torch.zeros(0, dtype=torch.int64, device=x.device)
    return log_sinkhorn(squared_distances(rows.double(), table), epsilon, sweeps).argmax(dim=1)


def squared_distances(x: Tensor, codebook: Tensor) -> Tensor:
    """‖x_i − e_k‖², [N, K]."""
    cross = x @ codebook.T
    return (x.square().sum(1)[:, None] + codebook.square().sum(1) - 2.0 * cross).clamp_(min=0.0)


def log_sinkhorn(distance: Tensor, epsilon: float, sweeps: int) -> Tensor:
    """log Q up to a constant. distance [N, K] float64 -> [N, K]"""
    middle = (distance.max() + distance.min()) / 2
    half_range = distance.max() - middle + 1e-5
    log_plan = (middle - distance) / half_range / epsilon
    rows, words = math.log(distance.shape[0]), math.log(distance.shape[1])
    for _ in range(sweeps):
        log_plan = log_plan - log_plan.logsumexp(dim=0, keepdim=True) - words
        log_plan = log_plan - log_plan.logsumexp(dim=1, keepdim=True) - rows
    return log_plan
