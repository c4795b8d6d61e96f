"""OpenOneRec's pid → ID table: parquet with `pid`, `sid` (a list of codes) and `packed`.

Its data scripts read `sid`; its tokenizer writes the same list as `codes`; its mappings
(sid2pid.json) are keyed by the packed ID, a · 8192² + b · 8192 + c, whatever the codebooks' sizes.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from letter_fast.tokenization.packing import pack, unpack
from letter_fast.tokenization.table_file import TableParts, list_column, matrix

from .facts import IN_FILE, Facts
from .format import Contents, Format

RADIX = 8192
_TOKENS = 3  # of an OpenOneRec model, where only packed IDs are there


def write(table: TableParts, facts: Facts, file: BinaryIO) -> None:
    """The table, in its order."""
    radix = facts.radix or RADIX
    if max(table.sizes) > radix:
        raise ValueError(f"codebooks of {table.sizes} don't fit a packed radix of {radix}")
    columns = {
        "pid": table.item_ids.array,
        "sid": list_column(table.codes.astype(np.int64)),
        "packed": pack(table.codes, [radix] * len(table.sizes)),
    }
    pq.write_table(pa.table(columns), file)


def read(path: Path, facts: Facts) -> Contents:
    """A table of pid and IDs, as lists or packed."""
    with pq.ParquetFile(path) as file:
        table = file.read()
    names = [name for name in ("sid", "codes", "packed") if name in table.column_names]
    if "pid" not in table.column_names or not names:
        raise ValueError(f"it needs pid and sid, codes or packed, it has {table.column_names}")
    column = table.column(names[0]).combine_chunks()
    if column.null_count:
        raise ValueError(
            f"row {column.is_null().index(True).as_py()} has no ID: {names[0]} is null"
        )
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_integer(column.type):
        radix = facts.radix or RADIX
        tokens = len(facts.sizes) if facts.sizes else _TOKENS
        codes = unpack(column.to_numpy(zero_copy_only=False), [radix] * tokens)
    elif _is_list_of_integers(column.type):
        codes = matrix(column)
    else:
        raise ValueError(f"{names[0]} must hold integers or lists of integers, got {column.type}")
    return Contents(codes, table.column("pid").combine_chunks())


def _is_list_of_integers(kind: pa.DataType) -> bool:
    types = pa.types
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(is_list and types.is_integer(kind.value_type))


FORMAT = Format("pid2sid.parquet", Facts(radix=RADIX, item_ids=IN_FILE), ("radix",), write, read)
