"""A file of interactions: RecBole's .inter, or parquet."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
from numpy.typing import NDArray


class Columns(NamedTuple):
    """The names of the columns."""

    user: str = "user_id"
    item: str = "item_id"
    time: str = "timestamp"


class Interactions(NamedTuple):
    """users, items: names, times: numbers. [M] each"""

    users: NDArray[np.str_]
    items: NDArray[np.str_]
    times: NDArray[np.float64]


def read_interactions(path: Path, columns: Columns) -> Interactions:
    """All rows of the file.

    Raises:
        ValueError: neither kind of file, a column is absent, or a value is missing.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.suffix == ".inter":
        table = csv.read_csv(path, parse_options=csv.ParseOptions(delimiter="\t"))
        # RecBole writes a type behind each name: user_id:token
        table = table.rename_columns([name.split(":")[0] for name in table.column_names])
    elif path.suffix == ".parquet":
        table = pq.read_table(path)
    else:
        raise ValueError(f"{path}: expected a .inter file of RecBole or a .parquet file")
    for role, name in columns._asdict().items():
        if name not in table.column_names:
            raise ValueError(
                f"{path} has no column {name!r}: name the {role} with --{role}; it has "
                f"{', '.join(table.column_names)}"
            )
        if table[name].null_count:
            raise ValueError(f"{path}: column {name!r} lacks {table[name].null_count} values")
    users, items = (
        np.array(table[name].cast(pa.string()).to_pylist(), dtype=np.str_)
        for name in (columns.user, columns.item)
    )
    times = table[columns.time]
    if pa.types.is_timestamp(times.type):
        times = times.cast(pa.int64())
    if not (pa.types.is_integer(times.type) or pa.types.is_floating(times.type)):
        raise ValueError(f"{path}: column {columns.time!r} holds {times.type}, expected numbers")
    return Interactions(users, items, times.to_numpy().astype(np.float64))
