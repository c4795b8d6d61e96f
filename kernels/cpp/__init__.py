"""C++ for the CPU: a certified int8 screen, and exact settling of what it can't decide.

`screen.h` derives the bound; `settle.h` decides among the candidates; `residual_search.cpp` walks
the levels. Every source with kernels is compiled once per instruction set, chosen at run time.
"""

from .operations import (
    balanced_lloyd,
    code_sums,
    contrastive,
    contrastive_gradient_h,
    distinct_codes,
    diversity,
    nearest,
    nearest_again,
    plus_plus,
    residual_losses,
    residual_losses_backward,
    residual_search,
    residual_search_beam,
    sinkhorn_codes,
    spill_codes,
)

__all__ = [
    "balanced_lloyd",
    "code_sums",
    "contrastive",
    "contrastive_gradient_h",
    "distinct_codes",
    "diversity",
    "nearest",
    "nearest_again",
    "plus_plus",
    "residual_losses",
    "residual_losses_backward",
    "residual_search",
    "residual_search_beam",
    "sinkhorn_codes",
    "spill_codes",
]
