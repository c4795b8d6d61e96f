"""The batches of an iterator, kept on disk: it gives them once, and rows are read again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from .arrays import ArrayEmbeddings
from .embeddings import Embeddings
from .errors import CatalogError
from .item_ids import ItemIds, concat


def spool(source: Iterator[Any], name: str = "the iterator") -> ArrayEmbeddings:
    """All rows of arrays or tensors [n, S], or of pairs (item ids, array), as float32.

    They go to a temporary file (see `tempfile`), which vanishes with the process.
    Raises:
        CatalogError: a batch is none of these, or they don't fit together.
    """
    with tempfile.TemporaryFile() as file:
        rows, width, ids = _write(source, name, file)
        matrix = np.memmap(file, np.float32, "r", shape=(rows, width))
    whole = concat([part.array for part in ids]) if ids else None
    return ArrayEmbeddings(
        name, matrix, None if whole is None else ItemIds(whole, f"{name}: the item ids")
    )


@contextmanager
def naming_the_folder() -> Iterator[None]:
    """Has an OSError of a temporary file, which has no name, name the folder it lies in."""
    try:
        yield
    except OSError as error:
        error.filename = tempfile.gettempdir()
        raise


def _write(source: Iterator[Any], name: str, file: BinaryIO) -> tuple[int, int, list[ItemIds]]:
    """Appends every row to `file`. -> rows, width, item ids batch by batch"""
    rows = width = 0
    ids: list[ItemIds] = []
    for batch in source:
        part = Embeddings.open(batch)
        width = width or part.width
        if part.width != width:
            raise CatalogError(
                f"{name} has vectors of width {part.width} from row {rows} on, {width} before"
            )
        if rows and (part.item_ids is None) == bool(ids):
            raise CatalogError(f"{name} must give item ids with every batch, or with none")
        if part.item_ids is not None:
            if ids and part.item_ids.kind != ids[0].kind:
                raise CatalogError(
                    f"{name} names items by {ids[0].kind} and, from row {rows} on, by "
                    f"{part.item_ids.kind}: choose one"
                )
            ids.append(part.item_ids)
        try:
            for block in part.batches():
                with naming_the_folder():
                    file.write(block.data)
                    file.flush()
        except CatalogError as error:
            raise CatalogError(f"{name}, in the batch from row {rows} on: {error}") from error
        rows += part.rows
    if rows == 0:
        raise CatalogError(f"{name} is empty: it gave no batch")
    return rows, width, ids
