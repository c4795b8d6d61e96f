"""The ID table's file: parquet, whose metadata say all that a reader must know.

    item_id   string or int64          unique, no null
    codes     fixed_size_list<int32>   T codes, zero-based, no level offset
    margin    fixed_size_list<float>   optional: per level, how much farther the runner-up was

Key `letter_fast` of the schema's metadata holds a JSON object: `format` (of this layout), `sizes`
[T], `base` (0), `level_offset` (null), and what the table's maker added: `policy`, `model` (its
fingerprint), `resolution` and more.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from letter_fast.atomic import replacing
from letter_fast.paths import local_path

_FORMAT = 1
_KEY = b"letter_fast"
_CONVENTION = {"base": 0, "level_offset": None}
RESERVED = ("format", "sizes", *_CONVENTION)
_ROW_GROUP = 1 << 20


class TableParts(NamedTuple):
    """codes [N, T]; sizes [T]; item_ids [N]; margins [N, L] or None; the rest of the metadata."""

    codes: NDArray[Any]
    sizes: list[int]
    item_ids: pa.Array
    margins: NDArray[np.float32] | None
    metadata: dict[str, Any]


def write_table(path: str | os.PathLike[str], parts: TableParts) -> None:
    """Writes the file, whole or not at all."""
    columns = {
        "item_id": parts.item_ids,
        "codes": list_column(parts.codes.astype(np.int32)),
    }
    if parts.margins is not None:
        columns["margin"] = list_column(parts.margins)
    facts = {"format": _FORMAT, "sizes": parts.sizes, **_CONVENTION, **parts.metadata}
    table = pa.table(columns).replace_schema_metadata({_KEY: json.dumps(facts).encode()})
    with replacing(path) as file:
        pq.write_table(table, file, row_group_size=_ROW_GROUP)


def read_table(path: str | os.PathLike[str]) -> TableParts:
    """Reads what `write_table` wrote.

    Raises:
        ValueError: the file is absent, broken, or not an ID table.
    """
    path = local_path(path)
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
        facts = json.loads((table.schema.metadata or {}).get(_KEY, b"null"))
    except Exception as error:
        raise ValueError(f"{path} can't be read as an ID table: {first_line(error)}") from error
    if not isinstance(facts, dict) or not {"item_id", "codes"} <= set(table.column_names):
        raise ValueError(f"{path} is not an ID table of letter-fast")
    if facts.pop("format", None) != _FORMAT:
        raise ValueError(f"{path} was written by a newer letter-fast; update to read it")
    for name, value in _CONVENTION.items():
        if facts.pop(name, value) != value:
            raise ValueError(
                f"{path} has another {name} than {value}, which this version can't read"
            )
    try:
        return TableParts(
            matrix(table.column("codes").combine_chunks()),
            [int(size) for size in facts.pop("sizes")],
            table.column("item_id").combine_chunks(),
            matrix(table.column("margin").combine_chunks())
            if "margin" in table.column_names
            else None,
            facts,
        )
    except Exception as error:
        raise ValueError(f"{path} is a broken ID table: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def list_column(matrix: NDArray[Any]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])


def matrix(column: pa.Array) -> NDArray[Any]:
    """A list column, fixed-size or (as other tools rewrite it) not, as [N, width]."""
    if column.null_count:
        raise ValueError("a row has no list")
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    if len(lengths) and (lengths != lengths[0]).any():
        raise ValueError(
            f"row {int((lengths != lengths[0]).argmax())} has a list of another length"
        )
    if len(lengths) == 0:
        width = column.type.list_size if pa.types.is_fixed_size_list(column.type) else 0
    else:
        width = int(lengths[0])
    values: NDArray[Any] = column.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(column), width)
