"""C++ for the CPU: a certified int8 screen, and exact settling of what it can't decide.

`screen.h` derives the bound; `settle.h` decides among the candidates; `residual_search.cpp` walks
the levels. Every source with kernels is compiled once per instruction set, chosen at run time.
"""

from .operations import (
    balanced_lloyd,
    cluster_sums,
    contrastive,
    contrastive_gradient_h,
    distinct_codes,
    diversity,
    evict_codes,
    kmeans_plusplus,
    nearest,
    nearest_bounded,
    residual_losses,
    residual_losses_backward,
    residual_search,
    residual_search_beam,
    sinkhorn_codes,
)

__all__ = [
    "balanced_lloyd",
    "cluster_sums",
    "contrastive",
    "contrastive_gradient_h",
    "distinct_codes",
    "diversity",
    "nearest",
    "nearest_bounded",
    "kmeans_plusplus",
    "residual_losses",
    "residual_losses_backward",
    "residual_search",
    "residual_search_beam",
    "sinkhorn_codes",
    "evict_codes",
]
