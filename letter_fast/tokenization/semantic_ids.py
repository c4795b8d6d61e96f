"""The ID table: which tuple of codes names which item."""

from __future__ import annotations

import json
import os
import re
import string
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from letter_fast.atomic import replacing
from letter_fast.catalog.embeddings import checked_ids

from .trie import PrefixTrie

Codes = NDArray[np.int64]

_FORMAT = 1
_BLOCK = 65_536  # items written at once
_KEY = b"letter_fast"
_TOKEN = re.compile(r"<([a-z])_(\d+)>")


class SemanticIds:
    """Codes of N items, T tokens each.

    Args:
        codes: [N, T] integers, zero-based.
        sizes: T codebook sizes; token t lies in 0 … sizes[t] − 1.
        item_ids: [N] unique strings or integers; None takes row numbers.
        metadata: anything JSON holds, stored with the table (policy, model fingerprint, …).

    Raises:
        ValueError: shapes don't fit, or a code is outside its codebook.
    """

    def __init__(
        self,
        codes: NDArray[Any],
        sizes: Sequence[int],
        item_ids: Any = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        codes = np.ascontiguousarray(codes)
        if codes.ndim != 2 or not np.issubdtype(codes.dtype, np.integer):
            raise ValueError(f"codes must be integers [N, T], got {codes.dtype} {codes.shape}")
        if codes.shape[1] != len(sizes) or not sizes or min(sizes) < 1:
            raise ValueError(f"sizes {list(sizes)} don't fit codes of {codes.shape[1]} tokens")
        if len(codes) and ((codes < 0) | (codes >= np.asarray(sizes))).any():
            row = int(((codes < 0) | (codes >= np.asarray(sizes))).any(axis=1).argmax())
            raise ValueError(
                f"row {row} has codes {codes[row].tolist()} outside codebooks of {list(sizes)}"
            )
        ids = pa.array(np.arange(len(codes))) if item_ids is None else item_ids
        self.item_ids = checked_ids(ids, "item ids")
        if len(self.item_ids) != len(codes):
            raise ValueError(f"{len(codes)} rows of codes but {len(self.item_ids)} item ids")
        self.codes: Codes = codes.astype(np.int64)
        self.sizes = [int(size) for size in sizes]
        self.metadata = dict(metadata or {})

    def __len__(self) -> int:
        return len(self.codes)

    def __repr__(self) -> str:
        return f"SemanticIds({len(self)} items, sizes={self.sizes})"

    # Lookups

    def codes_of(self, item_id: str | int) -> tuple[int, ...]:
        """The ID of an item; KeyError if it has none."""
        return tuple(self.codes[self._row_of_item[item_id]].tolist())

    def items_of(self, codes: Sequence[int]) -> list[str | int]:
        """The items an ID names: none, one, or (with collisions) several."""
        rows = self._rows_of_codes.get(tuple(int(code) for code in codes), [])
        return [self.item_ids[row].as_py() for row in rows]

    def duplicates(self) -> dict[tuple[int, ...], list[str | int]]:
        """The IDs that name more than one item."""
        return {
            codes: [self.item_ids[row].as_py() for row in rows]
            for codes, rows in self._rows_of_codes.items()
            if len(rows) > 1
        }

    @cached_property
    def _row_of_item(self) -> dict[str | int, int]:
        return {item: row for row, item in enumerate(self.item_ids.to_pylist())}

    @cached_property
    def _rows_of_codes(self) -> dict[tuple[int, ...], list[int]]:
        rows: dict[tuple[int, ...], list[int]] = {}
        for row, codes in enumerate(self.codes.tolist()):
            rows.setdefault(tuple(codes), []).append(row)
        return rows

    # Words for a recommender

    def tokens(self, rows: Sequence[int] | slice | None = None) -> list[list[str]]:
        """The tokens of each item, or of those in `rows`; "<a_12>" is code 12 of level 1."""
        letters = self._letters()
        chosen = self.codes if rows is None else self.codes[rows]
        return [
            [f"<{letter}_{code}>" for letter, code in zip(letters, row)] for row in chosen.tolist()
        ]

    def vocabulary(self) -> list[str]:
        """Every token there can be, level by level, code by code: independent of those in use."""
        return [
            f"<{letter}_{code}>"
            for letter, size in zip(self._letters(), self.sizes)
            for code in range(size)
        ]

    def trie(self) -> PrefixTrie:
        """The prefix tree of all IDs, for constrained decoding."""
        return PrefixTrie(self.codes, self.sizes)

    def _letters(self) -> str:
        if len(self.sizes) > len(string.ascii_lowercase):
            raise ValueError(f"tokens have letters for 26 levels, this table has {len(self.sizes)}")
        return string.ascii_lowercase[: len(self.sizes)]

    # Files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a parquet table: item_id, codes (fixed-size list), and what it is as metadata."""
        codes = pa.FixedSizeListArray.from_arrays(
            pa.array(self.codes.astype(np.int32).ravel()), len(self.sizes)
        )
        facts = {"format": _FORMAT, "sizes": self.sizes, "base": 0, **self.metadata}
        table = pa.table({"item_id": self.item_ids, "codes": codes}).replace_schema_metadata(
            {_KEY: json.dumps(facts).encode()}
        )
        with replacing(path) as file:
            pq.write_table(table, file)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SemanticIds:
        """Reads what `save` wrote.

        Raises:
            ValueError: the file is absent, broken, or not an ID table.
        """
        try:
            table = pq.read_table(path)
            facts = json.loads((table.schema.metadata or {}).get(_KEY, b"null"))
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"{path} can't be read as an ID table: {reason}") from error
        if not isinstance(facts, dict) or not {"item_id", "codes"} <= set(table.column_names):
            raise ValueError(f"{path} is not an ID table of letter-fast")
        if facts.pop("format", None) != _FORMAT:
            raise ValueError(f"{path} was written by a newer letter-fast; update to read it")
        facts.pop("base", None)
        try:
            sizes = [int(size) for size in facts.pop("sizes")]
            column = table.column("codes").combine_chunks()
            codes = column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1)
            return cls(codes, sizes, table.column("item_id").combine_chunks(), facts)
        except Exception as error:
            raise ValueError(f"{path} is a broken ID table: {error}") from error

    def to_letter_json(self, path: str | os.PathLike[str]) -> None:
        """LETTER's index.json: {"row number": ["<a_1>", "<b_2>", …]}, rows in table order."""
        with replacing(path) as file:
            file.write(b"{")
            for begin in range(0, len(self), _BLOCK):
                block = enumerate(self.tokens(slice(begin, begin + _BLOCK)), start=begin)
                text = ", ".join(f'"{row}": {json.dumps(tokens)}' for row, tokens in block)
                file.write(f"{', ' if begin else ''}{text}".encode())
            file.write(b"}\n")

    @classmethod
    def from_letter_json(
        cls, path: str | os.PathLike[str], sizes: Sequence[int] | None = None
    ) -> SemanticIds:
        """Reads an index.json of LETTER, LC-Rec or MiniOneRec.

        sizes: codebook sizes; None takes each level's largest code + 1.
        Raises:
            ValueError: the file is absent, not such an index, or rows differ in length.
        """
        try:
            index = json.loads(Path(path).read_text())
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} can't be read as an index: {error}") from error
        if not isinstance(index, dict) or not index:
            raise ValueError(f"{path} must hold a JSON object of item → tokens, and not be empty")
        rows = []
        for item, tokens in index.items():
            matches = [_TOKEN.fullmatch(str(t)) for t in tokens] if isinstance(tokens, list) else []
            letters = "".join(match[1] for match in matches if match)
            if not letters or letters != string.ascii_lowercase[: len(tokens)]:
                raise ValueError(f"{path}: item {item} has no tokens like <a_1>, <b_2>: {tokens}")
            rows.append([int(match[2]) for match in matches if match])
        if len({len(row) for row in rows}) > 1:
            raise ValueError(f"{path}: items differ in their number of tokens")
        codes = np.array(rows, dtype=np.int64)
        items = list(index)
        numbered = all(item.isascii() and item.isdecimal() for item in items)
        return cls(
            codes,
            sizes or (codes.max(axis=0) + 1).tolist(),
            pa.array([int(item) for item in items] if numbered else items),
        )
