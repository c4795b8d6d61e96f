"""letter-fast: exact residual quantization for semantic IDs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from letter_fast import functional
    from letter_fast.evaluation import evaluate
    from letter_fast.kernels import use_backend
    from letter_fast.model import (
        Letter,
        LetterConfig,
        ResidualKMeans,
        ResidualKMeansConfig,
        load,
    )
    from letter_fast.quantizer import ResidualQuantizer
    from letter_fast.tokenization import IdConstraint, SemanticIds, tokenize
    from letter_fast.training import TrainSettings, train

__version__ = "0.1.0"

# Where each public name lives. Imported on first use: `import letter_fast` alone costs nothing.
_HOMES = {
    "ResidualQuantizer": "letter_fast.quantizer",
    "Letter": "letter_fast.model",
    "LetterConfig": "letter_fast.model",
    "ResidualKMeans": "letter_fast.model",
    "ResidualKMeansConfig": "letter_fast.model",
    "load": "letter_fast.model",
    "train": "letter_fast.training",
    "TrainSettings": "letter_fast.training",
    "tokenize": "letter_fast.tokenization",
    "SemanticIds": "letter_fast.tokenization",
    "IdConstraint": "letter_fast.tokenization",
    "evaluate": "letter_fast.evaluation",
    "use_backend": "letter_fast.kernels",
    "functional": "letter_fast.functional",
}

__all__ = [
    "ResidualQuantizer",
    "Letter",
    "LetterConfig",
    "ResidualKMeans",
    "ResidualKMeansConfig",
    "load",
    "train",
    "TrainSettings",
    "tokenize",
    "SemanticIds",
    "IdConstraint",
    "evaluate",
    "use_backend",
    "functional",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'letter_fast' has no attribute {name!r}")
    home = import_module(_HOMES[name])
    value = home if name == "functional" else getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
