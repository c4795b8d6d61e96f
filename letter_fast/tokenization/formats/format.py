"""A format: its writer, its reader, and the facts that hold of its files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from letter_fast.tokenization.table_file import TableParts

from .facts import Facts


class _Pairs(list[tuple[str, Any]]):
    """The members of a JSON object as they stand, so that a name that comes twice is noticed."""


def read_object(path: Path) -> list[tuple[str, Any]] | None:
    """The members of the JSON object that the file holds; None where it holds something else."""
    found = json.loads(path.read_bytes(), object_pairs_hook=_Pairs)
    return found if isinstance(found, _Pairs) else None


def refuse_duplicates(facts: Facts, who: str) -> None:
    """ValueError where items share an ID, which `who` ("… refuse") takes exception to."""
    if facts.duplicates:
        raise ValueError(
            f"{facts.duplicates} items share their ID with an earlier one, which {who}: tokenize "
            "with --unique optimal or suffix"
        )


class Contents(NamedTuple):
    """The contents that a reader found.

    codes [N, T] zero-based; item_ids [N], None if the file has none; extra_token: the last token
    only tells colliding items apart, as rows without it show.
    """

    codes: NDArray[np.int64]
    item_ids: Any = None
    extra_token: bool = False


class Format(NamedTuple):
    """facts: what holds of its files, by default where `varies` names it; both functions follow
    them. example: the usual name of such a file.
    """

    example: str
    facts: Facts
    varies: tuple[str, ...]
    write: Callable[[TableParts, Facts, BinaryIO], None]
    read: Callable[[Path, Facts], Contents]
