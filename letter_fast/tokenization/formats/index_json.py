"""index.json: {"0": ["<a_183>", "<b_70>", "<c_232>"], …}, the key a row number.

LETTER, LC-Rec and MiniOneRec's RQ-VAE count codes from 0. MiniOneRec's constrained RQ-KMeans counts
from 1, and adds an ordinal as one more token to those rows only that would collide without it.
"""

from __future__ import annotations

import re
import string
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from letter_fast.tokenization.table_file import TableParts
from letter_fast.tokenization.trie import lexicographic_order
from letter_fast.tokenization.vocabulary import Vocabulary

from .facts import COLLIDING_ROWS, Facts
from .format import Contents, Format, read_object

_BLOCK = 65_536  # items written at once
_TOKEN = re.compile(r"<([a-z])_(0|[1-9][0-9]{0,9})>")
_SHIFT = 40
_ROW = re.compile(r"0|[1-9][0-9]{0,17}")


def write(table: TableParts, facts: Facts, file: BinaryIO) -> None:
    """The index, rows in table order."""
    Vocabulary(table.sizes)  # refuses levels without a letter
    extra = np.ones(len(table.codes), dtype=bool)
    if facts.extra_token == COLLIDING_ROWS:
        extra = (table.codes[:, -1] != 0) | _crowded(table.codes[:, :-1], table.sizes[:-1])
    file.write(b"{")
    for begin in range(0, len(table.codes), _BLOCK):
        rows = slice(begin, begin + _BLOCK)
        codes = table.codes[rows]
        words = [_quoted(level, column, facts.base) for level, column in enumerate(codes.T)]
        lists = _joined(words)
        if not extra[rows].all():
            lists = pc.if_else(pa.array(extra[rows]), lists, _joined(words[:-1] or words))
        keys = pa.array(np.arange(begin, begin + len(codes))).cast(pa.string())
        entries = pc.binary_join_element_wise('"', keys, '": [', lists, "]", "")
        text = pc.binary_join(pa.scalar(entries.to_pylist(), pa.list_(pa.string())), ", ")
        file.write((b", " if begin else b"") + text.as_py().encode())
    file.write(b"}\n")


def read(path: Path, facts: Facts) -> Contents:
    """Any index.json of these projects; keys that aren't all numbers become strings."""
    index = read_object(path)
    if index is None or (not index and facts.sizes is None):
        raise ValueError("it must hold a JSON object of item → tokens, and not be empty")
    known = _Tokens()
    rows = []
    for item, tokens in index:
        try:
            rows.append([known[token] for token in tokens])
        except TypeError:  # no list, or not of strings
            rows.append([])
        if not rows[-1]:
            raise _no_tokens(item, tokens)
    items: list[Any] = [item for item, _ in index]
    if all(map(_ROW.fullmatch, items)):
        items = [int(item) for item in items]
    longest = len(facts.sizes) if facts.sizes else max(map(len, rows))
    lengths = {len(row) for row in rows} - {longest}
    shorter = facts.extra_token == COLLIDING_ROWS and lengths == {longest - 1}
    if lengths and not shorter:
        raise ValueError(
            f"some items have {min(lengths)} tokens, {longest} are expected; MiniOneRec's "
            "constrained RQ-KMeans gives some one more: format minionerec"
        )
    numbers = np.array(
        [
            row if len(row) == longest else [*row, (longest - 1 << _SHIFT) + facts.base]
            for row in rows
        ],
        dtype=np.int64,
    ).reshape(-1, longest)
    wrong = (numbers >> _SHIFT != np.arange(longest)).any(axis=1)
    if wrong.any():
        raise _no_tokens(*index[int(wrong.argmax())])
    codes = (numbers & (1 << _SHIFT) - 1) - facts.base
    return Contents(codes, pa.array(items, None if items else pa.int64()), shorter)


class _Tokens(dict[str, int]):
    """Token → level · 2^_SHIFT + number, each parsed when it is first met; −1 of what is none."""

    def __missing__(self, token: str) -> int:
        match = _TOKEN.fullmatch(token)
        level = string.ascii_lowercase.index(match[1]) if match else 0
        self[token] = (level << _SHIFT) + int(match[2]) if match else -1
        return self[token]


def _no_tokens(item: str, tokens: Any) -> ValueError:
    return ValueError(f"item {item} has no tokens like <a_1>, <b_2>: {str(tokens)[:80]}")


def _crowded(codes: NDArray[np.int32], sizes: list[int]) -> NDArray[np.bool_]:
    """The rows that share all their codes with another."""
    order = lexicographic_order(codes, sizes)
    equal = (codes[order[1:]] == codes[order[:-1]]).all(axis=1)
    crowded = np.zeros(len(codes), dtype=bool)
    crowded[order[1:]] = equal
    crowded[order[:-1]] |= equal
    return crowded


def _quoted(level: int, codes: NDArray[np.int32], base: int) -> pa.Array:
    used, place = np.unique(codes, return_inverse=True)
    letter = string.ascii_lowercase[level]
    return pa.array([f'"<{letter}_{code + base}>"' for code in used.tolist()]).take(pa.array(place))


def _joined(words: list[pa.Array]) -> pa.Array:
    return pc.binary_join_element_wise(*words, ", ")


LETTER = Format("index.json", Facts(), ("base",), write, read)
MINIONEREC = LETTER._replace(facts=Facts(base=1, extra_token=COLLIDING_ROWS))
