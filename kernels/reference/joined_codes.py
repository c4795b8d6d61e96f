"""Codes of neighbouring levels side by side; a row that is marked at one is marked at all."""

from __future__ import annotations

import torch
from torch import Tensor


def joined_codes(parts: list[Tensor]) -> Tensor:
    """parts [N, L_i] int64 -> codes [N, Σ L_i] int64; −1 everywhere in a row with −1 anywhere."""
    codes = torch.cat(parts, dim=1)
    return codes.masked_fill_((codes < 0).any(dim=1, keepdim=True), -1)
