"""LETTER's collaborative loss: each quantized latent should find its own item's CF vector.

    L_cf = −1/B Σ_i log softmax_j(⟨q_i, h_j⟩)[i]      (Wang et al. 2024, eq. 4)

In-batch negatives, one direction; no temperature and no normalisation unless asked for.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from letter_fast import ops


def contrastive_loss(
    q: Tensor,
    h: Tensor,
    *,
    temperature: float = 1.0,
    normalize: bool = False,
    negatives: Tensor | None = None,
) -> Tensor:
    """Mean in-batch InfoNCE; row i of `h` is the positive of row i of `q`.

    q, h [B, D] floating point -> [], float64 if q is, otherwise float32. Memory grows with B, not
    with B².
    temperature: divides the inner products.
    normalize: rows of unit length, so that the products are cosines.
    negatives [M, D]: more rows that no row of q should find, such as other ranks' h; they get no
        gradient.
    Raises:
        ValueError: the shapes differ, there is no row, or the temperature isn't above 0.
    """
    if q.dim() != 2 or q.shape != h.shape:
        raise ValueError(
            f"q and h must share a shape [B, D], got {list(q.shape)} and {list(h.shape)}"
        )
    if len(q) == 0:
        raise ValueError("the contrastive loss needs at least one row")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    if negatives is not None and negatives.shape[1:] != q.shape[1:]:
        raise ValueError(
            f"negatives must be [M, {q.shape[1]}] as q is wide, got {list(negatives.shape)}"
        )
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    q, h = q.to(dtype), h.to(dtype)
    if negatives is not None:
        h = torch.cat([h, negatives.detach().to(dtype)])
    if normalize:
        q, h = F.normalize(q, dim=1), F.normalize(h, dim=1)
    if temperature != 1.0:
        q = q / temperature
    with_gradient = torch.is_grad_enabled() and q.requires_grad
    loss: Tensor = ops.contrastive(q.contiguous(), h.contiguous(), with_gradient)[0]
    return loss
