"""The losses of LETTER: quantization, collaborative (contrastive), diversity."""

from .contrastive import contrastive_loss
from .diversity import diversity_loss, diversity_losses
from .quantization import REDUCTIONS, RESIDUAL_GRADS, Reduction, ResidualGrad, residual_losses

__all__ = [
    "RESIDUAL_GRADS",
    "REDUCTIONS",
    "Reduction",
    "ResidualGrad",
    "contrastive_loss",
    "diversity_loss",
    "diversity_losses",
    "residual_losses",
]
