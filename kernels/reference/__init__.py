"""The specification: plain PyTorch; float64 decides a code, exact sums where float64 can't."""

from .balanced_lloyd import balanced_lloyd
from .code_sums import code_sums
from .contrastive import contrastive, contrastive_gradient_h
from .distinct_codes import distinct_codes
from .diversity import diversity
from .nearest import nearest
from .nearest_again import nearest_again
from .plus_plus import plus_plus
from .residual_losses import residual_losses, residual_losses_backward
from .residual_search import residual_search
from .residual_search_beam import residual_search_beam
from .sinkhorn_codes import sinkhorn_codes
from .spill_codes import spill_codes
from .within import within

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
    "within",
]
