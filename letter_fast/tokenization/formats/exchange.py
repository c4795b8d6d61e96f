"""Out of and into the parts of an ID table, in any format: what is common to all of them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from letter_fast import validation
from letter_fast.atomic import replacing
from letter_fast.paths import local_path
from letter_fast.tokenization.table_file import TableParts, checked_parts, first_line
from letter_fast.tokenization.trie import PrefixTrie

from . import faiss, flashrec, grid, index_json, openonerec, recsys
from .facts import COLLIDING_ROWS, EVERY_ROW, IN_ITEMS_FILE, NO_ROW, ROW_NUMBER, Facts
from .format import Format
from .sidecar import Sidecar, sidecar_path

FormatName = Literal["letter", "minionerec", "grid", "recsys", "openonerec", "faiss", "flashrec"]
FORMATS: dict[FormatName, Format] = {
    "letter": index_json.LETTER,
    "minionerec": index_json.MINIONEREC,
    "grid": grid.FORMAT,
    "recsys": recsys.FORMAT,
    "openonerec": openonerec.FORMAT,
    "faiss": faiss.FORMAT,
    "flashrec": flashrec.FORMAT,
}


def export_parts(
    table: TableParts, path: str | os.PathLike[str], format: FormatName, **given: Any
) -> Facts:
    """Writes a table, see `SemanticIds.export`; what is marked as removed stands in the sidecar."""
    kind = FORMATS[validation.choice(format, FORMATS, "format")]
    path = local_path(path)
    numbered = kind.facts.item_ids == ROW_NUMBER
    facts = replace(
        kind.facts,
        sizes=tuple(table.sizes),
        extra_token=_extra_token(table, kind),
        item_ids=IN_ITEMS_FILE if numbered and not _rows_are_items(table) else kind.facts.item_ids,
        duplicates=_duplicates(table),
        **_checked(format, kind, given),
    )
    with replacing(path) as file:
        kind.write(table, facts, file)
    items = table.item_ids.array if facts.item_ids == IN_ITEMS_FILE else None
    removed = _runs(~table.is_live)
    Sidecar(format, len(table.codes), facts, table.metadata, items, removed).write(path)
    return facts


def import_parts(
    path: str | os.PathLike[str],
    format: FormatName | None = None,
    *,
    sizes: Any = None,
    item_ids: Any = None,
    **given: Any,
) -> TableParts:
    """Reads and checks a table, see `SemanticIds.read`."""
    path = local_path(path)
    if not path.is_file():
        raise ValueError(f"{path} is not a file" if path.exists() else f"{path} does not exist")
    sidecar = Sidecar.read(path)
    name = format or (sidecar.format if sidecar else None)
    if name is None:
        raise ValueError(
            f"{path} has no sidecar to name its format: give one of {', '.join(FORMATS)}"
        )
    kind = FORMATS[validation.choice(name, FORMATS, "format")]
    given = _checked(name, kind, given)
    if sizes is not None:
        given["sizes"] = tuple(int(size) for size in sizes)
    facts = sidecar.facts if sidecar else replace(kind.facts, **given)
    if sidecar:
        _agree(path, sidecar, name, given)
    if item_ids is not None and facts.item_ids != ROW_NUMBER:
        raise ValueError(f"{path}: item ids are given, but it has them in its {facts.item_ids}")
    try:
        contents = kind.read(path, facts)
        if facts.sizes is None and len(contents.codes) == 0:
            raise ValueError("it holds no item: give the sizes")
        _check_none_negative(contents.codes)
        if sidecar:
            metadata = sidecar.metadata
            item_ids = sidecar.item_ids if item_ids is None else item_ids
        else:
            metadata = {"policy": "suffix"} if contents.extra_token else {}
        table = checked_parts(
            contents.codes,
            facts.sizes or (contents.codes.max(axis=0) + 1).tolist(),
            _named(contents.item_ids, item_ids),
            metadata,
            is_live=None if sidecar is None else ~_in_runs(sidecar.removed, len(contents.codes)),
        )
    except Exception as error:
        raise ValueError(f"{path} can't be read as {name}: {first_line(error)}") from error
    if sidecar:
        _verify(path, sidecar, table)
    return table


def _check_none_negative(codes: NDArray[Any]) -> None:
    """Before sizes are taken from the codes: ValueError names the first row."""
    negative = (codes < 0).any(axis=1)
    if negative.any():
        row = int(negative.argmax())
        raise ValueError(f"row {row} has codes {codes[row].tolist()}, which count from 0")


def _named(found: Any, given: Any) -> Any:
    """Ids of the rows: those in the file, unless these are numbers of ids known from elsewhere."""
    if given is None or found is None:
        return found if given is None else given
    return (given if isinstance(given, pa.Array) else pa.array(given)).take(found)


def _runs(marked: NDArray[np.bool_]) -> list[list[int]]:
    """The runs of marked rows, [begin, end) each."""
    edges = np.flatnonzero(np.diff(marked.astype(np.int8), prepend=0, append=0))
    runs: list[list[int]] = edges.reshape(-1, 2).tolist()
    return runs


def _in_runs(runs: list[list[int]], rows: int) -> NDArray[np.bool_]:
    """The inverse."""
    marked = np.zeros(rows, dtype=bool)
    for begin, end in runs:
        marked[begin:end] = True
    return marked


def _duplicates(table: TableParts) -> int:
    """Rows whose ID an earlier row has."""
    return len(table.codes) - len(PrefixTrie(table.codes, table.sizes))


def _extra_token(table: TableParts, kind: Format) -> str:
    if table.metadata.get("policy") != "suffix":
        return NO_ROW
    return COLLIDING_ROWS if kind.facts.extra_token == COLLIDING_ROWS else EVERY_ROW


def _rows_are_items(table: TableParts) -> bool:
    return bool(table.item_ids.array.equals(pa.array(np.arange(len(table.codes)))))


def _checked(name: str, kind: Format, given: dict[str, Any]) -> dict[str, Any]:
    """The facts that are given; ValueError for one in which files of the format don't vary."""
    given = {fact: value for fact, value in given.items() if value is not None}
    for fact in given:
        if fact not in kind.varies:
            may = f"it takes {', '.join(kind.varies)}" if kind.varies else "it takes none"
            raise ValueError(f"format {name} has no {fact} to choose; {may}")
    return given


def _agree(path: Path, sidecar: Sidecar, name: str, given: dict[str, Any]) -> None:
    said = {"format": sidecar.format, **vars(sidecar.facts)}
    for fact, value in {"format": name, **given}.items():
        if value != said[fact]:
            raise ValueError(
                f"{fact} is given as {value!r}, but {sidecar_path(path)} says {said[fact]!r}"
            )


def _verify(path: Path, sidecar: Sidecar, table: TableParts) -> None:
    found = {"rows": len(table.codes), "duplicates": _duplicates(table)}
    said = {"rows": sidecar.rows, "duplicates": sidecar.facts.duplicates}
    if found != said:
        raise ValueError(f"{path} has {found}, but {sidecar_path(path)} says {said}")
