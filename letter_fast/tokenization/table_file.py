"""The ID table's file: parquet, whose metadata say all that a reader must know.

    item_id            string or int64          unique, no null
    codes              fixed_size_list<int32>   T codes, zero-based, no level offset
    live               bool                     false: the item is removed, its ID reserved for it
    margin             fixed_size_list<float>   optional: how far the runner-up was, level by level
    embedding_digest   fixed_size_binary[8]     optional: see `digests`; null: not known

Key `letter_fast` of the schema's metadata holds a JSON object: `format` (of this layout; in 1,
which is read as well, there is no `live`, and every item is), `sizes` [T], `base` (0),
`level_offset` (null), and what the table's maker added: `policy`, `model` (its fingerprint, see
`provenance`), `resolution` and more.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from letter_fast.atomic import replacing
from letter_fast.catalog.item_ids import ItemIds
from letter_fast.paths import local_path

from .codes import check_codes, checked_sizes
from .digests import BYTES, UNKNOWN, Digests

_FORMAT = 2
_KEY = b"letter_fast"
_CONVENTION = {"base": 0, "level_offset": None}
_RESERVED = ("format", "sizes", *_CONVENTION)
_ROW_GROUP = 1 << 20


class TableParts(NamedTuple):
    """codes [N, T]; sizes [T]; item_ids and is_live [N]; margins [N, L], digests [N] or None;
    metadata: the rest of it.
    """

    codes: NDArray[np.int32]
    sizes: list[int]
    item_ids: ItemIds
    is_live: NDArray[np.bool_]
    margins: NDArray[np.float32] | None
    digests: Digests | None
    metadata: dict[str, Any]


def checked_parts(
    codes: ArrayLike,
    sizes: Sequence[int],
    item_ids: Any = None,
    metadata: Mapping[str, Any] | None = None,
    margins: ArrayLike | None = None,
    *,
    is_live: ArrayLike | None = None,
    digests: Digests | None = None,
) -> TableParts:
    """Parts that fit together, of arguments as `SemanticIds` has them.

    Raises:
        ValueError: shapes don't fit, a code is outside its codebook, or item ids aren't unique.
    """
    codes = np.ascontiguousarray(codes)
    sizes = checked_sizes(sizes)
    check_codes("codes", codes, sizes)
    ids = ItemIds.row_numbers(len(codes)) if item_ids is None else ItemIds(item_ids)
    if len(ids) != len(codes):
        raise ValueError(f"{len(codes)} rows of codes but {len(ids)} item ids")
    if reserved := set(_RESERVED) & set(metadata or {}):
        raise ValueError(f"metadata can't be called {', '.join(sorted(reserved))}")
    margins = None if margins is None else np.asarray(margins, dtype=np.float32)
    if margins is not None and not (
        margins.ndim == 2 and len(margins) == len(codes) and 1 <= margins.shape[1] <= len(sizes)
    ):
        raise ValueError(
            f"margins must be [{len(codes)}, L] with L at most {len(sizes)}, got "
            f"{list(margins.shape)}"
        )
    known = None if digests is None or not np.any(digests) else digests
    return TableParts(
        codes.astype(np.int32),
        sizes,
        ids,
        _column(is_live, len(codes), np.bool_, "is_live", instead=True),
        margins,
        None if known is None else _column(known, len(codes), np.uint64, "digests"),
        dict(metadata or {}),
    )


def _column(
    values: ArrayLike | None, rows: int, dtype: type, name: str, instead: Any = None
) -> NDArray[Any]:
    """A value a row of one type; `instead` everywhere if there are none."""
    column = np.full(rows, instead, dtype=dtype) if values is None else np.asarray(values)
    if column.shape != (rows,) or column.dtype != dtype:
        raise ValueError(
            f"{name} must be {np.dtype(dtype)} [{rows}], got {column.dtype} {list(column.shape)}"
        )
    return column


def write_table(path: str | os.PathLike[str], parts: TableParts) -> None:
    """Writes the file, whole or not at all."""
    table = as_table(parts)
    with replacing(path) as file:
        pq.write_table(table, file, row_group_size=_ROW_GROUP)


def as_table(parts: TableParts) -> pa.Table:
    """The table that the file holds."""
    columns = {
        "item_id": parts.item_ids.array,
        "codes": list_column(parts.codes),
        "live": pa.array(parts.is_live),
    }
    if parts.margins is not None:
        columns["margin"] = list_column(parts.margins)
    if parts.digests is not None:
        columns["embedding_digest"] = _digest_column(parts.digests)
    facts = {"format": _FORMAT, "sizes": parts.sizes, **_CONVENTION, **parts.metadata}
    return pa.table(columns).replace_schema_metadata({_KEY: json.dumps(facts).encode()})


def read_table(path: str | os.PathLike[str], sizes: Sequence[int] | None = None) -> TableParts:
    """Reads what `write_table` wrote.

    sizes: of the codebooks, for a table whose metadata another tool has dropped.
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
    columns = {
        name: table.column(name).combine_chunks()
        for name in ("item_id", "codes", "live", "margin", "embedding_digest")
        if table.column_names.count(name) == 1
    }
    if not {"item_id", "codes"} <= set(columns):
        raise ValueError(
            f"{path} is not an ID table of letter-fast: it needs one column item_id and one codes, "
            f"it has {', '.join(table.column_names)}"
        )
    facts = _known_facts(path, facts, sizes)
    if facts.pop("format") == _FORMAT and "live" not in columns:
        raise ValueError(
            f"{path} has lost its column live, which says which items are removed: write it again "
            "from its source"
        )
    try:
        digests = columns.get("embedding_digest")
        return checked_parts(
            matrix(columns["codes"]),
            facts.pop("sizes"),
            columns["item_id"],
            facts,
            matrix(columns["margin"]) if "margin" in columns else None,
            is_live=_flags(columns["live"]) if "live" in columns else None,
            digests=None if digests is None else _digests(digests),
        )
    except Exception as error:
        raise ValueError(f"{path} is a broken ID table: {first_line(error)}") from error


def _known_facts(
    path: str | os.PathLike[str], facts: Any, sizes: Sequence[int] | None
) -> dict[str, Any]:
    """The metadata without what every table has in common; `sizes` stands in for lost ones."""
    if facts is None and sizes is None:
        raise ValueError(
            f"{path} has the columns of an ID table, but its metadata are gone (pandas, polars and "
            "Spark drop them), and with them the sizes of the codebooks: letter-fast import "
            "FILE --format table --sizes 256,256,256 --out OUT, or "
            "SemanticIds.load(path, sizes=[256, 256, 256])"
        )
    if facts is None:
        return {"format": None, "sizes": [int(size) for size in sizes or ()]}
    if not isinstance(facts, dict):
        raise ValueError(f"{path} is a broken ID table: its metadata are no JSON object")
    found = facts.get("format")
    if found not in range(1, _FORMAT + 1):
        newer = isinstance(found, int) and found > _FORMAT
        raise ValueError(
            f"{path} was written by a newer letter-fast; update to read it"
            if newer
            else f"{path} is a broken ID table: its format is {str(found)[:40]}"
        )
    for name, value in _CONVENTION.items():
        if facts.pop(name, value) != value:
            raise ValueError(
                f"{path} has another {name} than {value}, which this version can't read"
            )
    there = facts.get("sizes")
    if not isinstance(there, list) or not all(type(size) is int for size in there):
        raise ValueError(f"{path} is a broken ID table: its sizes are {str(there)[:40]}")
    if sizes is not None and list(sizes) != there:
        raise ValueError(f"{path} has codebooks of {there}, not of {list(sizes)}")
    return facts


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
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
    flat = column.flatten()
    if flat.null_count:
        row = flat.is_null().index(True).as_py() // width
        raise ValueError(f"row {row} has a null in its list")
    values: NDArray[Any] = flat.to_numpy(zero_copy_only=False)
    return values.reshape(len(column), width)


def _flags(column: pa.Array) -> NDArray[np.bool_]:
    if not pa.types.is_boolean(column.type) or column.null_count:
        raise ValueError(f"live must be true or false in every row, got {column.type}")
    flags: NDArray[np.bool_] = column.to_numpy(zero_copy_only=False).astype(bool)
    return flags


def _digest_column(digests: Digests) -> pa.Array:
    """As bytes: integers with nulls become floating point in the hands of other tools."""
    known = pa.array(digests != UNKNOWN)
    content = pa.py_buffer(np.ascontiguousarray(digests, dtype="<u8"))
    validity = None if known.false_count == 0 else known.buffers()[1]
    return pa.Array.from_buffers(pa.binary(BYTES), len(digests), [validity, content])


_BINARY = (pa.types.is_fixed_size_binary, pa.types.is_binary, pa.types.is_large_binary)


def _digests(column: pa.Array) -> Digests:
    if not any(kind(column.type) for kind in _BINARY):
        raise ValueError(f"embedding_digest must be {BYTES} bytes, got {column.type}")
    column = column.cast(pa.binary(BYTES))
    known = column.is_valid().to_numpy(zero_copy_only=False)
    filled = column.fill_null(b"\0" * BYTES)
    rows = slice(filled.offset, filled.offset + len(filled))
    digests = np.frombuffer(filled.buffers()[1], dtype="<u8")[rows].astype(np.uint64)
    return np.where(known, digests, UNKNOWN)
