"""The run's log: one JSON object an epoch in log.jsonl, optionally TensorBoard events beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
        self._file = None
        self._events = None
        if folder is None:
            return
        path = folder / LOG_FILE
        self._file = path.open("r+b" if path.exists() else "w+b")
        self._file.truncate(kept)
        self._file.seek(kept)
        if tensorboard:
            from torch.utils.tensorboard.writer import SummaryWriter

            self._events = SummaryWriter(str(folder / "tensorboard"))

    def write(self, record: Mapping[str, Any]) -> None:
        """One epoch's record; lists are per level."""
        if self._file is not None:
            self._file.write(json.dumps(record).encode() + b"\n")
            self._file.flush()
        if self._events is not None:
            for name, value in record.items():
                values = value if isinstance(value, list) else [value]
                for level, number in enumerate(values):
                    tag = f"{name}/level_{level + 1}" if isinstance(value, list) else name
                    self._events.add_scalar(tag, number, record["epoch"])

    def size(self) -> int:
        """Bytes written so far; a checkpoint remembers it."""
        return self._file.tell() if self._file is not None else 0

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        if self._events is not None:
            self._events.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The records of a run; a last line cut short by a crash is left out.

    Raises:
        ValueError: there is no log, or a line is not JSON.
    """
    path = local_path(folder) / LOG_FILE
    if not path.is_file():
        raise ValueError(f"{folder} holds no training run: it has no {LOG_FILE}")
    records = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} line {number} is not JSON: {error}") from error
    return records
