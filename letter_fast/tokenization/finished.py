"""Codes that are finished, on disk, so that a killed run goes on where it was.

manifest.json                        what they are codes of: model, input, rows, options
codes-<shard>-<SHA-256>.safetensors  `codes` [n, L] int32, `digests` [n] uint64 and perhaps
                                     `margins` [n, L] float32 of 65,536 rows; the name holds the
                                     checksum of the bytes, so that one rename publishes both

How collisions are resolved is not among the options: it takes all codes, and comes after them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from letter_fast.atomic import make_folder, write_bytes
from letter_fast.locks import only_writer
from letter_fast.paths import local_path

from .digests import Digests

_MANIFEST = "manifest.json"
_ROWS = 1 << 16


class Encoded(NamedTuple):
    """codes [R, L] int32; digests [R] of the embeddings; margins [R, L] float32, if asked for."""

    codes: NDArray[np.int32]
    digests: Digests
    margins: NDArray[np.float32] | None

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays that there are, by name."""
        return {name: array for name, array in self._asdict().items() if array is not None}


class FinishedShards:
    """The folder.

    facts: by name, what the codes depend on.
    fresh: what the folder holds is dropped.
    Raises:
        ValueError: the folder holds codes that depend on something else.
    """

    def __init__(
        self, folder: str | os.PathLike[str], facts: Mapping[str, Any], fresh: bool = False
    ) -> None:
        self._folder = local_path(folder)
        if fresh:
            drop(folder)
        self._facts = {"format": 2, "shard_rows": _ROWS, **facts}
        self._declared = any(self._folder.glob("codes-*.safetensors"))
        if self._declared:
            self._compare()

    def load(self, encoded: Encoded) -> NDArray[np.int64]:
        """Fills in the rows of all whole shards there are; which rows are missing, ascending."""
        missing = []
        for shard, rows in enumerate(_shards(len(encoded.codes))):
            found = self._read(shard)
            if found is not None and _fits(found, encoded, rows):
                for name, array in encoded.arrays().items():
                    array[rows] = found[name]
            else:
                missing.append(np.arange(rows.start, rows.stop))
        return np.concatenate([np.zeros(0, dtype=np.int64), *missing])

    def save(self, encoded: Encoded, places: NDArray[np.int64], upcoming: int) -> None:
        """Writes the shards that became whole: `places` were filled in, `upcoming` is the next."""
        if not self._declared:
            self._declare()
        for shard in range(int(places[0]) // _ROWS, int(places[-1]) // _ROWS + 1):
            if upcoming // _ROWS == shard and upcoming < len(encoded.codes):
                return
            rows = slice(shard * _ROWS, (shard + 1) * _ROWS)
            content = save({name: array[rows] for name, array in encoded.arrays().items()})
            name = f"codes-{shard:06}-{hashlib.sha256(content).hexdigest()}.safetensors"
            write_bytes(self._folder / name, content)

    def _read(self, shard: int) -> dict[str, NDArray[Any]] | None:
        """The arrays of a shard, None if there are none; damaged files are deleted."""
        for path in self._folder.glob(f"codes-{shard:06}-*.safetensors"):
            content = path.read_bytes()
            with suppress(SafetensorError):
                if path.stem.endswith(hashlib.sha256(content).hexdigest()):
                    return load(content)
            path.unlink()
        return None

    def _compare(self) -> None:
        manifest = self._folder / _MANIFEST
        try:
            there = json.loads(manifest.read_bytes())
            if not isinstance(there, dict):
                raise ValueError("no JSON object")
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(
                f"{manifest} can't be read: start anew (--fresh, fresh=True)"
            ) from error
        if not isinstance(there, dict):
            raise ValueError(f"{manifest} can't be read: start anew (--fresh, fresh=True)")
        other = [name for name, value in self._facts.items() if there.get(name) != value]
        if other:
            raise ValueError(
                f"{self._folder} holds the unfinished codes of another run (what differs: "
                f"{', '.join(other)}); finish that one, or start anew (--fresh, fresh=True)"
            )

    def _declare(self) -> None:
        """Says what the codes are of, before the first ones are there."""
        text = json.dumps(self._facts, indent=2) + "\n"
        write_bytes(self._folder / _MANIFEST, text.encode())
        self._declared = True


@contextmanager
def kept_to_one_run(folder: str | os.PathLike[str] | None) -> Iterator[None]:
    """Keeps other runs out of the folder meanwhile, and does not leave it behind empty.

    Raises:
        ValueError: another run has it.
    """
    if folder is None:
        yield
        return
    root = make_folder(folder)
    try:
        with only_writer(root):
            yield
    finally:
        with suppress(OSError):
            root.rmdir()


def drop(folder: str | os.PathLike[str]) -> None:
    """Deletes what `FinishedShards` keeps in a folder, and the folder if nothing else is there."""
    root = local_path(folder)
    # The manifest last: codes without one would pass for those of the next run.
    for pattern in ("*codes-*.safetensors*", f"*{_MANIFEST}*"):
        for path in root.glob(pattern):
            path.unlink(missing_ok=True)
    with suppress(OSError):
        root.rmdir()


def _shards(rows: int) -> list[slice]:
    return [slice(start, min(start + _ROWS, rows)) for start in range(0, rows, _ROWS)]


def _fits(found: Mapping[str, NDArray[Any]], encoded: Encoded, rows: slice) -> bool:
    return all(
        name in found
        and found[name].dtype == array.dtype
        and found[name].shape == array[rows].shape
        for name, array in encoded.arrays().items()
    )
