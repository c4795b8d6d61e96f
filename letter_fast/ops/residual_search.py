"""letter_fast::residual_search: the codes of all levels in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from letter_fast import kernels


@torch.library.custom_op("letter_fast::residual_search", mutates_args=())
def residual_search(
    x: Tensor, codebooks: Tensor, sizes: list[int], with_margins: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x [N, D] float32, codebooks [ΣK, D] float32, level l being the next sizes[l] rows
    -> codes [N, L] int64, quantized [N, D] float32,
       margins and errors [N, L] float32 (both [0, L] without `with_margins`).
    """
    return kernels.pick(x.device).residual_search(x, codebooks, sizes, with_margins)


@residual_search.register_fake
def _(
    x: Tensor, codebooks: Tensor, sizes: list[int], with_margins: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    levels = len(sizes)
    extra = (x.shape[0] if with_margins else 0, levels)
    return (
        x.new_empty((x.shape[0], levels), dtype=torch.int64),
        torch.empty_like(x),
        x.new_empty(extra),
        x.new_empty(extra),
    )
