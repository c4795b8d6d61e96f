"""letter_fast::joined_codes: codes of neighbouring levels side by side."""

from __future__ import annotations

import torch
from torch import Tensor

from letter_fast import kernels
from letter_fast.kernels import reference

from . import checks


@torch.library.custom_op("letter_fast::joined_codes", mutates_args=())
def joined_codes(parts: list[Tensor]) -> Tensor:
    """parts [N, L_i] int64 -> codes [N, Σ L_i] int64; −1 everywhere in a row with −1 anywhere"""
    rows, device = len(parts[0]), parts[0].device
    for part in parts:
        checks.tensor("codes", part, checks.INT64, (rows, None), device, strided=True)
    return kernels.implementation(reference.joined_codes, device)(parts)


@joined_codes.register_fake
def _(parts: list[Tensor]) -> Tensor:
    return parts[0].new_empty((parts[0].shape[0], sum(part.shape[1] for part in parts)))
