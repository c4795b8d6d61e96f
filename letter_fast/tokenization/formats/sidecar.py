"""`<file>.facts.json`: what must be known to read a file, bound to the very bytes it is about.

Where rows are only numbered, `<file>.items.parquet` says which item each is (column `item_id`).
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from letter_fast.atomic import replacing
from letter_fast.paths import beside, local_path
from letter_fast.tokenization.table_file import first_line

from .facts import IN_ITEMS_FILE, Facts

_VERSION = 1
_BLOCK = 1 << 20
_COLUMN = "item_id"


@dataclass(frozen=True)
class Sidecar:
    """Facts of a file of `format` with `rows` items. item_ids: by row, if the file needs them;
    removed: runs of rows [begin, end) whose items are marked as removed.
    """

    format: str
    rows: int
    facts: Facts
    metadata: dict[str, Any] = field(default_factory=dict)
    item_ids: pa.Array | None = None
    removed: list[list[int]] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Beside the finished file `path`; facts last, as what makes the others count."""
        items = items_path(path)
        if self.item_ids is None:
            items.unlink(missing_ok=True)
        else:
            with replacing(items) as file:
                pq.write_table(pa.table({_COLUMN: self.item_ids}), file)
        content = {
            "letter_fast": _VERSION,
            "format": self.format,
            "rows": self.rows,
            **asdict(self.facts),
            "removed": self.removed,
            "metadata": self.metadata,
            "sha256": _digest(path),
            "items_sha256": _digest(items) if self.item_ids is not None else None,
        }
        with replacing(sidecar_path(path)) as file:
            file.write(json.dumps(content, indent=2).encode() + b"\n")

    @classmethod
    def read(cls, path: Path) -> Sidecar | None:
        """The sidecar of the file `path`, None if it has none.

        Raises:
            ValueError: it is broken, of a newer version, or about other bytes than the file's.
        """
        beside = sidecar_path(path)
        if not beside.exists():
            return None
        try:
            content = json.loads(beside.read_bytes())
            if content["letter_fast"] != _VERSION:
                raise ValueError("a newer letter-fast wrote it")
            known = {one.name: content[one.name] for one in fields(Facts)}
            if known["sizes"] is not None:
                known["sizes"] = tuple(known["sizes"])
            facts = Facts(**known)
            name, rows = str(content["format"]), int(content["rows"])
            metadata = dict(content["metadata"])
            removed = [[int(begin), int(end)] for begin, end in content.get("removed", [])]
            digests = {path: content["sha256"]}
            if facts.item_ids == IN_ITEMS_FILE:
                digests[items_path(path)] = content["items_sha256"]
        except Exception as error:
            raise ValueError(
                f"{beside} is broken ({type(error).__name__}: {error}); repair or delete it"
            ) from error
        for file, digest in digests.items():
            if not file.is_file() or digest != _digest(file):
                raise ValueError(
                    f"{beside} is not about {file.name} as it is now: export anew, or delete it "
                    "and say what it said"
                )
        items = read_items(items_path(path)) if facts.item_ids == IN_ITEMS_FILE else None
        return cls(name, rows, facts, metadata, items, removed)


def read_items(path: str | os.PathLike[str]) -> pa.Array:
    """Column `item_id` of a parquet file: an items file, an ID table, a catalog.

    Raises:
        ValueError: the file is absent or broken, or has no such column.
    """
    path = local_path(path)
    try:
        with pq.ParquetFile(path) as file:
            return file.read(columns=[_COLUMN]).column(_COLUMN).combine_chunks()
    except Exception as error:
        reason = first_line(error)
        raise ValueError(f"{path} has no item ids in a column {_COLUMN!r}: {reason}") from error


def sidecar_path(path: str | os.PathLike[str]) -> Path:
    """The file of the facts about `path`."""
    return beside(Path(path), ".facts.json")


def items_path(path: str | os.PathLike[str]) -> Path:
    """The file of the item ids of its rows, if they are neither in it nor row numbers."""
    return beside(Path(path), ".items.parquet")


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
