"""Mean in-batch InfoNCE and its gradients, a block of logits at a time.

loss = −1/B Σ_i log p_ii        p_ij = exp(q_i·h_j − log Σ_j exp q_i·h_j)

∂q_i = (Σ_j p_ij h_j − h_i)/B        ∂h_j = (Σ_i p_ij q_i − [j < B] q_j)/B
"""

from __future__ import annotations

import torch
from torch import Tensor

# Rows of logits held at once: bounds the memory.
_BLOCK = 1024


def contrastive(q: Tensor, h: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Mean over i of log Σ_j exp(q_i·h_j) − q_i·h_i.

    q [B, D], h [M ≥ B, D]
    -> loss [], log_total [B] float64, gradient of q [B, D] or [0, D]
    """
    totals: list[Tensor] = []
    losses, gradients = [], []
    with torch.autocast(q.device.type, enabled=False):
        for part, own in zip(q.split(_BLOCK), h[: len(q)].split(_BLOCK)):
            logits = part @ h.T
            log_total = logits.double().logsumexp(dim=1)
            place = torch.arange(len(part), device=q.device) + _BLOCK * len(totals)
            losses.append((log_total - logits[place - place[0], place]).sum())
            totals.append(log_total)
            if with_gradient:
                weights = (logits - log_total[:, None]).exp().to(q.dtype)
                gradients.append((weights @ h - own) / len(q))
    loss = (torch.stack(losses).sum() / len(q)).to(q.dtype)
    gradient = torch.cat(gradients) if with_gradient else q.new_empty((0, q.shape[1]))
    return loss, torch.cat(totals), gradient


def contrastive_gradient_h(q: Tensor, h: Tensor, log_total: Tensor) -> Tensor:
    """q [B, D], h [M, D], log_total [B] float64 -> gradient of h [M, D]"""
    gradient = torch.zeros_like(h)
    gradient[: len(q)] = -q
    with torch.autocast(q.device.type, enabled=False):
        for part, shift in zip(q.split(_BLOCK), log_total.split(_BLOCK)):
            weights = (part @ h.T - shift[:, None]).exp().to(q.dtype)
            gradient += weights.T @ part
    return gradient / len(q)
