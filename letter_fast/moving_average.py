"""Codewords that follow their rows: exponential moving averages (van den Oord et al. 2017, A.1).

A step in which codeword k of level l names n_k rows, whose residuals r_{l−1} add up to S_k:

    N_k ← γ N_k + (1 − γ) n_k        m_k ← γ m_k + (1 − γ) S_k        e_k = m_k / N_k

Since m = N e, it is enough to keep N:

    e_k ← e_k + (1 − γ) (S_k − n_k e_k) / N_k

S_k − n_k e_k = Σ r_l over the rows of k is the gradient that the codebook term would give e_k, but
for its sign and factor, and comes from that kernel: the same bits from run to run. A codeword that
has no N yet (0: at the start, or newly revived) counts as much as an average one of this step, and
one that names no row stays where it is.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from letter_fast import ops


@torch.no_grad()
def follow_rows(
    codebooks: Tensor,
    weights: Tensor,
    sizes: list[int],
    x: Tensor,
    codes: Tensor,
    errors: Tensor,
    decay: float,
    all_reduce: Callable[[Tensor], object] | None = None,
) -> None:
    """One step, in place, of codebooks [ΣK, D] and weights [ΣK] (N).

    x [N, D] float32 or float64, codes [N, L] int64 (a row of −1 counts nowhere), errors [L] float64
    as `residual_losses` gives them, decay γ.
    all_reduce: replaces a tensor by its sum over processes that each have rows of their own.
    """
    own = x.new_zeros((3, len(sizes)), dtype=torch.float64)
    own[1] = -1.0
    table, nothing = codebooks.to(x.dtype).contiguous(), torch.zeros_like(x)
    _, pull = ops.residual_losses_backward(x, table, sizes, codes, errors, nothing, own)
    counts = _count(codes, sizes)
    if all_reduce is not None:
        all_reduce(pull)
        all_reduce(counts)
    averages = [(level.sum() / len(level)).expand(len(level)) for level in counts.split(sizes)]
    before = torch.where(weights > 0, weights, torch.cat(averages))
    weights.copy_(decay * before + (1 - decay) * counts)
    step = (1 - decay) * pull / weights[:, None]
    codebooks.add_(torch.where(counts[:, None] > 0, step, 0.0))


def _count(codes: Tensor, sizes: list[int]) -> Tensor:
    """Rows of each codeword, [ΣK] float32."""
    counts = []
    for code, size in zip(codes.unbind(1), sizes):
        # Not bincount, which asks the device for the largest code; marked rows have the last place.
        place = torch.where(code >= 0, code, size)
        found = code.new_zeros(size + 1).index_add_(0, place, torch.ones_like(place))
        counts.append(found[:-1].float())
    return torch.cat(counts)
