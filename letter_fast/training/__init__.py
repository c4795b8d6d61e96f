"""Training: settings, codebook start, the loop, checkpoints and the journal."""

from .loop import TrainResult, train
from .settings import TrainSettings

__all__ = ["TrainResult", "TrainSettings", "train"]
