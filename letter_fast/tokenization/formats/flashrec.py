"""FlashRec's catalog (`--sid-vocab-file`): a JSON object {"3,141,59": 1, …}, a key an ID.

Codes count from 0 in each level; FlashRec numbers the levels' tokens one after the other, as
`Vocabulary` does. A key can't come twice, so items that share an ID are refused. What the values
are is not looked at there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

import numpy as np

from letter_fast.tokenization.table_file import TableParts

from .facts import Facts
from .format import Contents, Format, read_object, refuse_duplicates

_BLOCK = 65_536  # IDs written at once
_KEY = re.compile(r"\d{1,18}(,\d{1,18})*")


def write(table: TableParts, facts: Facts, file: BinaryIO) -> None:
    """The keys in table order."""
    refuse_duplicates(facts, "a JSON object of IDs can't hold")
    file.write(b"{")
    for begin in range(0, len(table.codes), _BLOCK):
        rows = table.codes[begin : begin + _BLOCK].tolist()
        keys = ",".join(f'"{",".join(map(str, row))}":1' for row in rows)
        file.write(b"," * (begin > 0) + keys.encode())
    file.write(b"}")


def read(path: Path, facts: Facts) -> Contents:
    """Such an object, whatever its values."""
    pairs = read_object(path)
    if pairs is None:
        raise ValueError("it must hold one JSON object, with a key an ID")
    keys = [key for key, _ in pairs]
    broken = next((key for key in keys if not _KEY.fullmatch(key)), None)
    if broken is not None:
        raise ValueError(f'the key {broken[:80]!r} is no ID such as "3,141,59"')
    rows = [[int(code) for code in key.split(",")] for key in keys]
    levels = len(rows[0]) if rows else len(facts.known_sizes())
    odd = next((key for key, row in zip(keys, rows) if len(row) != levels), None)
    if odd is not None:
        raise ValueError(f"the key {odd!r} has another number of codes than the first, {levels}")
    if len(set(keys)) < len(keys):
        raise ValueError(f"{len(keys) - len(set(keys))} keys come twice")
    return Contents(np.array(rows, dtype=np.int64).reshape(-1, levels))


FORMAT = Format("sid2vid.json", Facts(), (), write, read)
