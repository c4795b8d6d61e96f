"""Files that exist whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import BinaryIO

from .paths import local_path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file that becomes `path` when the block ends, and nothing if the block fails.

    Written beside `path` and synced to disk before it takes the name, so that neither a crash nor a
    full disk leaves half a file there. What a killed writer of the same file left is removed.
    """
    target = local_path(path)
    make_folder(target.parent)
    for abandoned in target.parent.glob(f".{escape(target.name)}.*.part"):
        abandoned.unlink(missing_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; a result gets the permissions that open() would have given.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, target)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(target)  # a full disk does not say whose write failed
        raise


def make_folder(path: str | os.PathLike[str]) -> Path:
    """The folder `path`, made if need be; ValueError if it is, or lies below, a file."""
    folder = local_path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(f"{folder} can't be a folder: there is a file of that name") from error
    return folder


def check_target(path: str | os.PathLike[str]) -> None:
    """Refuses, before the work that would be lost, a `path` that no file can be written to."""
    target = local_path(path)
    if target.is_dir():
        raise ValueError(f"{target} is a folder; give the name of a file")
    parent = next(folder for folder in target.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise ValueError(f"{target} can't be written: {parent} is no writable folder")


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Makes `path` hold exactly `content`."""
    with replacing(path) as file:
        file.write(content)
