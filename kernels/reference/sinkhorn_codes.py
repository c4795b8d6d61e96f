"""The uniform mapping: codes of a group of rows that use the codewords about equally often.

Q ∝ exp(−d̃/ε) between n rows and K codewords after `sweeps` times dividing it by the sums of its
rows and then of its columns (Sinkhorn–Knopp); d̃ are the squared distances of the group, centred by
their mid-range and divided by their half-range plus 1e-5, as in LETTER's and LC-Rec's public code.
The code is the arg-max of a row of Q, the lowest index among equals: even use is encouraged, not
promised. In the log domain, as Q itself underflows for small ε.

With fewer rows than codewords many columns belong to one row but for a part of 10⁻¹⁶ or less, and Q
is 1 there: the row's code is the lowest of them. Backends differ only where rounding decides.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..refusals import NO_GROUPS


def sinkhorn_codes(
    x: Tensor, codebook: Tensor, starts: Tensor, epsilon: float, sweeps: int
) -> Tensor:
    """Codes of each group of rows by Sinkhorn's uniform mapping, in float64.

    x [N, D], codebook [K, D] float32, starts [G + 1] int64 on the CPU: group g is the rows
    starts[g]:starts[g + 1]; epsilon ≥ 1e-300 -> codes [N] int64
    A row with NaN or Inf does not belong to its group.
    """
    if int(starts[0]) or int(starts[-1]) != len(x) or bool((starts.diff() < 0).any()):
        raise ValueError(NO_GROUPS)
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
    for _ in range(sweeps - 1):
        log_plan = log_plan - log_plan.logsumexp(dim=1, keepdim=True)
        log_plan = log_plan - log_plan.logsumexp(dim=0, keepdim=True)
    log_plan = log_plan - log_plan.logsumexp(dim=1, keepdim=True)
    # Not in the log domain: log Q = x − (x + 10⁻¹⁵) is rounded to 0 long before Q is to 1.
    return log_plan.softmax(dim=0).argmax(dim=1)


def _squared_distances(x: Tensor, codebook: Tensor) -> Tensor:
    """By differences: no cancellation. x [n, D], codebook [K, D] float64 -> [n, K]"""
    distance = torch.cdist(x, codebook, compute_mode="donot_use_mm_for_euclid_dist")
    return distance.square()
