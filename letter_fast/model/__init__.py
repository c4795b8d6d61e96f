"""The models: LETTER (encoder, residual quantizer, decoder), and residual k-means."""

from .config import LetterConfig, ResidualKMeansConfig
from .letter import Letter, LetterLosses, Share
from .residual_kmeans import ResidualKMeans
from .tokenizer import MODELS, Tokenizer, check_trained, load, trained_on

__all__ = [
    "MODELS",
    "Letter",
    "LetterConfig",
    "LetterLosses",
    "ResidualKMeans",
    "ResidualKMeansConfig",
    "Share",
    "Tokenizer",
    "check_trained",
    "load",
    "trained_on",
]
