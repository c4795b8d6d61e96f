"""LETTER's collaborative loss: each quantized latent should find its own item's CF vector.

    L_cf = −1/B Σ_i log softmax_j(⟨q_i, h_j⟩)[i]      (Wang et al. 2024, eq. 4)

In-batch negatives, one direction; no temperature and no normalisation unless asked for.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from letter_fast import ops, validation


def contrastive_loss(
    q: ArrayLike,
    h: ArrayLike,
    *,
    temperature: float = 1.0,
    normalize: bool = False,
    negatives: ArrayLike | None = None,
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
    validation.flags(normalize=normalize)
    q, h = validation.tensor(q, "q"), validation.tensor(h, "h")
    if q.dim() != 2 or q.shape != h.shape:
        raise ValueError(
            f"q and h must share a shape [B, D], got {list(q.shape)} and {list(h.shape)}"
        )
    if len(q) == 0:
        raise ValueError("the contrastive loss needs at least one row")
    if not validation.number(temperature, "temperature") > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    width = q.shape[1]
    q, h = validation.floats(q, width, "q"), validation.floats(h, width, "h")
    validation.together(q, {"h": h}, "q")
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    q, h = q.to(dtype), h.to(dtype)
    if negatives is not None:
        others = validation.tensor(negatives, "negatives")
        if others.dim() != 2 or others.shape[1] != width:
            raise ValueError(
                f"negatives must be [M, {width}] as q is wide, got {list(others.shape)}"
            )
        others = validation.floats(others, width, "negatives")
        validation.together(q, {"negatives": others}, "q")
        h = torch.cat([h, others.detach().to(dtype)])
    q, h = compared(q, h, temperature, normalize)
    with_gradient = torch.is_grad_enabled() and q.requires_grad
    loss: Tensor = ops.contrastive(q.contiguous(), h.contiguous(), with_gradient)[0]
    return loss


def compared(q: Tensor, h: Tensor, temperature: float, normalize: bool) -> tuple[Tensor, Tensor]:
    """Both sides such that their inner products are the loss's logits; see `contrastive_loss`.

    q [B, D], h [M, D] -> [B, D], [M, D]
    """
    if normalize:
        q, h = F.normalize(q, dim=1), F.normalize(h, dim=1)
    return (q if temperature == 1.0 else q / temperature), h
