"""The numbers of items a model suits: at least the codewords of a level, at most its IDs."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from letter_fast.catalog import CatalogError, Embeddings


def check_enough(catalog: Embeddings, codebook_size: Sequence[int]) -> None:
    """Refuses a catalog of fewer items than a level has codewords: CatalogError."""
    most = max(codebook_size)
    if catalog.rows < most:
        raise CatalogError(
            f"{catalog.name} has {catalog.rows} items, fewer than the {most} codewords of a "
            "level: use a smaller codebook_size or more items"
        )


def check_unique(catalog: Embeddings, codebook_size: Sequence[int]) -> None:
    """Refuses a catalog of more items than there are IDs: CatalogError."""
    room = prod(codebook_size)
    if catalog.rows > room:
        raise CatalogError(
            f"{catalog.name} has {catalog.rows:,} items, but codebooks of {list(codebook_size)} "
            f"make only {room:,} IDs: use larger ones or one more level, or allow_collisions "
            "(--allow-collisions), if items may share their ID or are told apart by --unique "
            "suffix"
        )
