"""A catalog's embeddings: from files and arrays to checked float32 batches."""

from .alignment import align_cf
from .columns import Columns, Flags, TrainedOn
from .embeddings import Embeddings
from .errors import CatalogError
from .mapped import MappedEmbeddings
from .opening import open_source

Embeddings._open = staticmethod(open_source)

__all__ = [
    "CatalogError",
    "Columns",
    "Embeddings",
    "Flags",
    "MappedEmbeddings",
    "TrainedOn",
    "align_cf",
]
