"""LETTER's diversity loss: a codeword should look like the others of its group, unlike the rest.

Per row i with code c, and e_+ a random other codeword of c's group (Wang et al. 2024, eq. 5):

    ℓ_i = −log softmax over j ≠ c of ⟨e_c, e_j⟩, at e_+

The logits depend on the code alone, so with S = E Eᵀ, n_k the rows of code k and T_kt those that
drew target t, the loss is (Σ_k n_k LSE_{j≠k} S_kj − Σ_kt T_kt S_kt) / B: K × K work for any B.
A codeword alone in its group has no e_+: its rows contribute 0 (and still count in B).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def diversity_loss(
    codes: Tensor, codebook: Tensor, groups: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """The mean over the batch for one level.

    codes [B] int64 (a row of −1 counts nowhere), codebook [K, D], groups [K] int64 -> []
    Raises:
        ValueError: shapes don't fit.
    """
    size = len(codebook)
    if codes.dim() != 1 or groups.shape != (size,):
        raise ValueError(
            f"codes must be [B] and groups [{size}], got {list(codes.shape)} and "
            f"{list(groups.shape)}"
        )
    targets = draw_positives(codes, groups, generator)
    paired = targets >= 0
    pairs = torch.where(paired, codes.clamp(min=0) * size + targets.clamp(min=0), size * size)
    drawn = torch.bincount(pairs, minlength=size * size + 1)[:-1].view(size, size)
    drawn = drawn.to(codebook.dtype)

    similarity = codebook @ codebook.T
    itself = torch.eye(size, dtype=torch.bool, device=codebook.device)
    log_total = similarity.masked_fill(itself, -math.inf).logsumexp(dim=1)
    # A lone codeword has an empty sum, log 0; its count is 0 as well.
    log_total = torch.where(drawn.sum(dim=1) > 0, log_total, 0.0)
    total = (drawn.sum(dim=1) * log_total).sum() - (drawn * similarity).sum()
    return total / (codes >= 0).sum().clamp(min=1)


def draw_positives(codes: Tensor, groups: Tensor, generator: torch.Generator | None) -> Tensor:
    """For each row a uniformly random other codeword of its code's group; −1 where there is none.

    codes [B] int64, groups [K] int64 -> [B] int64
    """
    order = groups.argsort(stable=True)
    _, group, counts = torch.unique(groups, return_inverse=True, return_counts=True)
    begin = counts.cumsum(0) - counts
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    rank = place - begin[group]  # of each codeword within its group

    code = codes.clamp(min=0)
    others = counts[group[code]] - 1
    uniform = torch.rand(len(codes), generator=generator, device=codes.device, dtype=torch.float64)
    step = (uniform * others).long().clamp(max=(others - 1).clamp(min=0))
    chosen = (rank[code] + 1 + step) % (others + 1)
    target = order[begin[group[code]] + chosen]
    return torch.where((others > 0) & (codes >= 0), target, -1)
