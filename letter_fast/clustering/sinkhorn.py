"""Uniform mapping: codes of a batch that use the codewords about equally often."""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from letter_fast import ops, validation
from letter_fast.ops.checks import MOST_SWEEPS


@torch.no_grad()
def sinkhorn_codes(
    x: ArrayLike,
    codebook: ArrayLike,
    epsilon: float = 0.003,
    sweeps: int = 50,
    starts: ArrayLike | None = None,
) -> Tensor:
    """Codes of the whole batch at once; they depend on all its rows. Formula, rule for ties and
    sources: `kernels/reference/sinkhorn_codes.py`.

    x [N, D], codebook [K, D] -> [N] int64
    starts: [G + 1] integers from 0 up to N; rows starts[g]:starts[g + 1] are mapped by themselves,
        as if each were a batch. None: one group.
    Raises:
        ValueError: epsilon is not above 0, sweeps below 1, starts don't divide the rows, or
            rows or codewords with NaN or Inf.
    """
    table = validation.codebook(codebook)
    rows = validation.rows(x, table.shape[1])
    validation.together(rows, {"codebook": table})
    # Below 1e-300 distances divided by epsilon leave the range of float64.
    epsilon = validation.number(epsilon, "epsilon", 1e-300)
    sweeps = validation.integer(sweeps, "sweeps", 1, MOST_SWEEPS)
    divided = torch.tensor([0, len(rows)]) if starts is None else _division(starts, len(rows))
    codes: Tensor = ops.sinkhorn_codes(rows, table, divided, epsilon, sweeps)
    validation.finite_codes(codes)
    return codes


def _division(starts: ArrayLike, rows: int) -> Tensor:
    """`starts` as the ops want them; ValueError if they don't divide the rows into groups."""
    found = validation.integers(starts, "starts").cpu().contiguous()
    if found.dim() != 1:
        raise ValueError(f"starts must be a vector of integers, got shape {list(found.shape)}")
    if len(found) == 0 or found[0] != 0 or found[-1] != rows or bool((found.diff() < 0).any()):
        shown = found.tolist() if len(found) < 9 else [*found[:4].tolist(), "…", int(found[-1])]
        raise ValueError(f"starts must ascend from 0 to the {rows} rows of x, got {shown}")
    return found
