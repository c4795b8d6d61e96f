"""k-means, size-constrained k-means and Sinkhorn's uniform mapping."""

from .balanced import AssignmentResult, BalancedKMeansResult, balanced_assign, balanced_kmeans
from .kmeans import KMeansResult, kmeans
from .sinkhorn import sinkhorn_codes

__all__ = [
    "AssignmentResult",
    "BalancedKMeansResult",
    "KMeansResult",
    "balanced_assign",
    "balanced_kmeans",
    "kmeans",
    "sinkhorn_codes",
]
