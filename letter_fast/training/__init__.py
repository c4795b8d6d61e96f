"""Training: settings, codebook start, the loop, checkpoints and the journal."""

from .loop import TrainResult, train
from .residual_kmeans import FitSettings, fit_residual_kmeans
from .settings import TrainSettings

__all__ = ["FitSettings", "TrainResult", "TrainSettings", "fit_residual_kmeans", "train"]
