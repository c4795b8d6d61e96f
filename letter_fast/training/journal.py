"""The run's log: one JSON object an epoch in log.jsonl, optionally TensorBoard events beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from letter_fast.paths import local_path

LOG_FILE = "log.jsonl"


class Journal:
    """Appends records to `folder`/log.jsonl; with no folder, keeps none.

    kept: bytes of an existing log that belong to the run (the rest was written after the checkpoint
    that the run resumes from, and is cut off).
    tensorboard: needs that package.
    """

    def __init__(self, folder: Path | None, kept: int = 0, tensorboard: bool = False) -> None:
        self._file: FileIO | None = None
        self._events = None
        self._size = 0
        if folder is None:
            return
        path = folder / LOG_FILE
        # Unbuffered: what a full disk refuses is not to be tried again when the file is closed.
        self._file = path.open("r+b" if path.exists() else "w+b", buffering=0)
        self._size = min(kept, path.stat().st_size)
        self._cut()
        if tensorboard:
            from torch.utils.tensorboard.writer import SummaryWriter

            self._events = SummaryWriter(str(folder / "tensorboard"))

    def write(self, record: Mapping[str, Any]) -> None:
        """One epoch's record; lists are per level."""
        if self._file is not None:
            self._append(json.dumps(record).encode() + b"\n")
        if self._events is not None:
            with _naming(self._events.log_dir):
                for name, value in record.items():
                    values = value if isinstance(value, list) else [value]
                    for level, number in enumerate(values):
                        tag = f"{name}/level_{level + 1}" if isinstance(value, list) else name
                        self._events.add_scalar(tag, number, record["epoch"])

    def size(self) -> int:
        """Bytes written so far; a checkpoint remembers it."""
        return self._size

    def _append(self, line: bytes) -> None:
        assert self._file is not None
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._cut()
            error.filename = self._file.name
            raise
        self._size += len(line)

    def _cut(self) -> None:
        """Leaves whole lines only."""
        assert self._file is not None
        self._file.truncate(self._size)
        self._file.seek(self._size)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        if self._events is not None:
            with _naming(self._events.log_dir):
                self._events.close()


@contextmanager
def _naming(folder: str) -> Iterator[None]:
    """Has an OSError of TensorBoard's thread, which does not say where, name the folder."""
    try:
        yield
    except OSError as error:
        error.filename = folder
        raise


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The records of a run; a last line cut short by a crash is left out.

    Raises:
        ValueError: there is no log, or a line is not a record.
    """
    path = local_path(folder) / LOG_FILE
    if not path.is_file():
        raise ValueError(f"{folder} holds no training run: it has no {LOG_FILE}")
    records = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:  # bytes that are not text, too
            raise ValueError(f"{path} line {number} is not JSON: {error}") from error
        if not isinstance(record, dict) or not isinstance(record.get("epoch"), int):
            raise ValueError(f"{path} line {number} is not the record of an epoch")
        records.append(record)
    return records
