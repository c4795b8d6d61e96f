"""The LETTER model: encoder, residual quantizer, decoder."""

from .config import LetterConfig
from .letter import Letter, LetterLosses

__all__ = ["Letter", "LetterConfig", "LetterLosses"]
