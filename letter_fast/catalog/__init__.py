"""A catalog's embeddings: from files and arrays to checked float32 batches."""

from .alignment import align_cf
from .embeddings import CatalogError, Embeddings
from .mapped import MappedEmbeddings

__all__ = ["CatalogError", "Embeddings", "MappedEmbeddings", "align_cf"]
