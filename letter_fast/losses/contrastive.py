"""LETTER's collaborative loss: each quantized latent should find its own item's CF vector.

    L_cf = −1/B Σ_i log softmax_j(⟨q_i, h_j⟩)[i]      (Wang et al. 2024, eq. 4)

In-batch negatives, one direction, no temperature, no normalisation.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import Tensor

# Rows of logits held at once.
_BLOCK = 4096


def contrastive_loss(q: Tensor, h: Tensor) -> Tensor:
    """Mean in-batch InfoNCE; row i of `h` is the positive of row i of `q`.

    q, h [B, D] floating point -> []. At most 4096 × B logits exist at once, in the backward pass
    too: blocks are recomputed there.
    Raises:
        ValueError: the shapes differ, or there is no row.
    """
    if q.dim() != 2 or q.shape != h.shape:
        raise ValueError(
            f"q and h must share a shape [B, D], got {list(q.shape)} and {list(h.shape)}"
        )
    if len(q) == 0:
        raise ValueError("the contrastive loss needs at least one row")
    if len(q) <= _BLOCK:
        return _block_loss(q, h, 0) / len(q)
    total = q.new_zeros(())
    for start in range(0, len(q), _BLOCK):
        total = total + torch.utils.checkpoint.checkpoint(
            _block_loss, q[start : start + _BLOCK], h, start, use_reentrant=False
        )
    return total / len(q)


def _block_loss(q: Tensor, h: Tensor, start: int) -> Tensor:
    own = torch.arange(start, start + len(q), device=q.device)
    return F.cross_entropy(q @ h.T, own, reduction="sum")
