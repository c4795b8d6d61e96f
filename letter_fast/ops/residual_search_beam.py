"""letter_fast::residual_search_beam: the codes of the best of several paths."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from letter_fast import kernels
from letter_fast.kernels import reference

from . import checks


@torch.library.custom_op("letter_fast::residual_search_beam", mutates_args=())
def residual_search_beam(
    x: Tensor, codebooks: Tensor, sizes: list[int], beam: int
) -> tuple[Tensor, Tensor]:
    """x [N, D] floating point, codebooks [ΣK, D] float32
    -> codes [N, L] int64, quantized [N, D] float32
    """
    checks.rows("x", x, checks.SEARCHED)
    checks.levels(sizes, checks.codebook(codebooks, x))
    # No level has more paths than there are codes of the levels before the last.
    beam = min(beam, math.prod(sizes[:-1]))
    if not 1 <= beam <= checks.MOST_PATHS:
        raise ValueError(f"beam must lie between 1 and {checks.MOST_PATHS} paths, got {beam}")
    return kernels.implementation(reference.residual_search_beam, x.device)(
        x, codebooks, sizes, beam
    )


@residual_search_beam.register_fake
def _(x: Tensor, codebooks: Tensor, sizes: list[int], beam: int) -> tuple[Tensor, Tensor]:
    codes = x.new_empty((x.shape[0], len(sizes)), dtype=torch.int64)
    return codes, x.new_empty(x.shape, dtype=torch.float32)
