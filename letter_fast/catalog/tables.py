"""Embeddings in a table in memory: pandas, Arrow, polars, or what else speaks Arrow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from .arrays import ArrayEmbeddings
from .columns import ROW, Wanted, holds_vectors
from .embeddings import Embeddings
from .errors import CatalogError, EmptySource, first_line
from .item_ids import ItemIds
from .parquet import as_matrix

_NAME = "the table"


def as_table(source: Any) -> pa.Table | None:
    """The source as an Arrow table, an index of pandas as a column; None if it is none.

    Raises:
        CatalogError: a table that Arrow can't hold.
    """
    if isinstance(source, pa.Table):
        return source
    if isinstance(source, pa.RecordBatch):
        return pa.Table.from_batches([source])
    kind = type(source)
    pandas = kind.__module__.partition(".")[0] == "pandas" and kind.__name__ == "DataFrame"
    # A RecordBatchReader has both; it comes only once, which is what an iterator is read for.
    speaks_arrow = hasattr(source, "__arrow_c_stream__") and not hasattr(source, "__next__")
    if not pandas and not speaks_arrow:
        return None
    try:
        return _of_frame(source) if pandas else pa.table(source)
    except Exception as error:  # whatever another library's export raises
        raise CatalogError(
            f"{_NAME}, a {kind.__name__}, can't be read by Arrow: {first_line(error)}"
        ) from error


def _of_frame(frame: Any) -> pa.Table:
    """An index that only counts rows from 0 is not a column; one of chosen or reordered rows is."""
    index = frame.index
    counts = type(index).__name__ == "RangeIndex" and (index.start, index.step) == (0, 1)
    return pa.Table.from_pandas(frame, preserve_index=not counts)


def open_table(table: pa.Table, wanted: Wanted) -> Embeddings:
    """The vectors of the table, held as a matrix."""
    if table.num_rows == 0:
        raise EmptySource(f"{_NAME} is empty: it has no rows")
    schema = table.schema
    if wanted.vectors is None and not any(holds_vectors(field.type) for field in schema):
        raise CatalogError(
            f"{_NAME} has no column of float lists, one vector a row; for a matrix with a column a "
            "dimension pass (item ids, frame[columns].to_numpy())"
        )
    columns = wanted.choose(_NAME, schema)
    assert columns.vectors is not None
    where = f"{_NAME}: column {columns.vectors!r}"
    parts: list[Any] = []
    done = 0
    for chunk in table.column(columns.vectors).chunks:
        width = parts[0].shape[1] if parts else 0
        if len(chunk):
            parts.append(as_matrix(chunk, np.arange(done, done + len(chunk)), where, width))
        done += len(chunk)
    ids = None
    if columns.ids not in (None, ROW):
        ids = ItemIds(table.column(columns.ids), f"{_NAME}: column {columns.ids!r}")
    return ArrayEmbeddings(_NAME, np.concatenate(parts), ids, columns=columns)
