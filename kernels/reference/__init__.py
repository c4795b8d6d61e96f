"""The specification: plain PyTorch; float64 decides a code, exact sums where float64 can't."""

from .balanced_lloyd import balanced_lloyd
from .cluster_sums import cluster_sums
from .contrastive import contrastive, contrastive_gradient_h
from .distinct_codes import distinct_codes
from .diversity import diversity
from .evict_codes import evict_codes
from .kmeans_plusplus import kmeans_plusplus
from .nearest import nearest
from .nearest_bounded import nearest_bounded
from .residual_losses import residual_losses, residual_losses_backward
from .residual_search import residual_search
from .residual_search_beam import residual_search_beam
from .sinkhorn_codes import sinkhorn_codes
from .within import within

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
    "within",
]
