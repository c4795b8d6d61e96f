"""Ways for the gradient of a codeword to the row it stands for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def unit_rows(x: Tensor) -> Tensor:
    """x / ‖x‖, by rows. [..., D]"""
    return F.normalize(x, dim=-1, eps=1e-6)


def straight_through(z: Tensor, word: Tensor) -> Tensor:
    """The codeword; its gradient is z's."""
    return word.detach() + (z - z.detach())


def rotated(z: Tensor, word: Tensor) -> Tensor:
    """The codeword; its gradient goes to z as if a constant matrix had turned and scaled z onto it.

    s (I − 2ww' + 2vu') with s = ‖e‖ / ‖z‖ and unit vectors u of z, v of the codeword e, w of u + v
    (Fifty et al. 2024, arXiv 2410.06424, section 4.2). z, word [N, D]
    """
    turned: Tensor = _Rotation.apply(z, word)  # type: ignore[no-untyped-call]
    return turned


def noisy_direction(z: Tensor, word: Tensor, variance: float, mask: Tensor | None) -> Tensor:
    """z + ‖e − z‖ v: as far from z as the codeword is, towards a noisy picture of it, with unit
    v ∝ e − z + √variance · noise held constant (DiVeQ, openreview KRVnpTbx7R, figure 1).

    z, word [N, D]; mask: as `of_all_rows` takes it
    """
    error = word - z
    noise = of_all_rows(torch.randn_like, error, mask)
    direction = unit_rows(error + math.sqrt(variance) * noise).detach()
    length: Tensor = error.norm(dim=-1, keepdim=True)
    return z + direction * length


def of_all_rows(draw: Callable[[Tensor], Tensor], like: Tensor, mask: Tensor | None) -> Tensor:
    """Random numbers like `like` [n, …]; with a mask the package draws for padding as well.

    mask: bool [...], of which n are True, or None
    """
    if mask is None:
        return draw(like)
    return draw(like.new_empty(mask.numel(), *like.shape[1:]))[mask.flatten()]


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, word: Tensor) -> Tensor:
        ctx.save_for_backward(z, word)
        return word.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        z, word = ctx.saved_tensors
        length = z.norm(dim=1, keepdim=True).clamp(min=1e-6)
        goal = word.norm(dim=1, keepdim=True)
        u, v = z / length, word / goal.clamp(min=1e-6)
        w = unit_rows(u + v)
        along_w, along_v = ((grad * a).sum(1, keepdim=True) for a in (w, v))
        return (goal / length) * (grad - 2 * along_w * w + 2 * along_v * u), None
