"""The item catalog of NVIDIA's recsys-examples: JSON lines {"item_id": …, "token_ids": [t, …]}.

Token ids are those of the model's vocabulary, each level's after the one before. Its reader refuses
two items with one ID, and so does this writer.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from letter_fast.catalog.id_types import as_arrow
from letter_fast.tokenization.table_file import TableParts
from letter_fast.tokenization.vocabulary import Vocabulary

from .facts import IN_FILE, Facts
from .format import Contents, Format, refuse_duplicates

_BLOCK = 65_536  # items written at once


def write(table: TableParts, facts: Facts, file: BinaryIO) -> None:
    """One line an item, in table order."""
    refuse_duplicates(facts, "recsys-examples refuse")
    vocabulary = Vocabulary(table.sizes)
    for begin in range(0, len(table.codes), _BLOCK):
        rows = slice(begin, begin + _BLOCK)
        token_ids = vocabulary.token_ids(table.codes[rows], facts.level_offset or 0).tolist()
        items = _json_ids(table.item_ids.array[rows]).to_pylist()
        file.writelines(
            f'{{"item_id": {json.dumps(item)}, "token_ids": {tokens}}}\n'.encode()
            for item, tokens in zip(items, token_ids)
        )


def _json_ids(ids: pa.Array) -> pa.Array:
    """Bytes as the text they are the UTF-8 of; ValueError where they are none."""
    try:
        return ids.cast(pa.string()) if ids.type == pa.binary() else ids
    except pa.ArrowInvalid as error:
        raise ValueError(
            "some item ids are bytes that are no UTF-8 text, which JSON can't hold"
        ) from error


def read(path: Path, facts: Facts) -> Contents:
    """Such a catalog; other fields of a line are left out."""
    sizes = facts.known_sizes()
    items, rows = [], []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            record = json.loads(line)
            tokens = record.get("token_ids") if isinstance(record, dict) else None
            if (
                not isinstance(tokens, list)
                or len(tokens) != len(sizes)
                or not all(type(token) is int and abs(token) < 2**62 for token in tokens)
                or type(record.get("item_id")) not in (int, str)
            ):
                raise ValueError(
                    f"line {number} is not an item_id with {len(sizes)} token_ids: {line[:80]!r}"
                )
            items.append(record["item_id"])
            rows.append(tokens)
    token_ids = np.array(rows, dtype=np.int64).reshape(-1, len(sizes))
    codes = Vocabulary(sizes, "<{level}_{code}>").codes(token_ids, facts.level_offset or 0)
    return Contents(codes, as_arrow(items, "item_id") if items else pa.array([], pa.int64()))


FORMAT = Format(
    "catalog.jsonl", Facts(level_offset=0, item_ids=IN_FILE), ("level_offset",), write, read
)
