"""A catalog's embeddings: from files and arrays to checked float32 batches."""

from .alignment import align_cf
from .embeddings import CatalogError, Embeddings

__all__ = ["CatalogError", "Embeddings", "align_cf"]
