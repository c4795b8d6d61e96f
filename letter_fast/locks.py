"""Locks that vanish with the process that holds them, however it ends.

They are the operating system's, on an open file (flock): nothing is left behind that could keep a
later run out. Some network file systems have none; there, runs go on without, after a warning.
"""

from __future__ import annotations

import errno
import fcntl
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .paths import beside

_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EINVAL}


def try_lock(handle: int) -> bool | None:
    """Whether the open file is now locked for this handle; None where the system can't lock."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Keeps every other run, of this process too, out of the folder or output file `path`.

    The lock is on .lock in the folder, or beside the file; it is removed in the end, and what a
    killed run leaves of it keeps no other run out.
    Raises:
        ValueError: another run has it.
    """
    place = path / ".lock" if path.is_dir() else beside(path, ".lock", prefix=".")
    handle, locked = _open(place, path)
    if locked is None:
        warnings.warn(
            f"{place.parent} can't be locked on this file system: nothing keeps a second run out "
            f"of {path}",
            RuntimeWarning,
            stacklevel=3,
        )
    try:
        yield
    finally:
        # While it is still locked: another run may take the name from here on.
        place.unlink(missing_ok=True)
        os.close(handle)


def _open(place: Path, path: Path) -> tuple[int, bool | None]:
    """The lock's file, open, and whether it could be locked."""
    while True:
        handle = os.open(place, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            locked = try_lock(handle)
            if locked is False:
                owner = os.read(handle, 200).decode(errors="replace") or "another process"
                raise ValueError(
                    f"{path} is being written by another run ({owner}): wait for it to end, or "
                    "choose another output"
                )
            if locked is None or _is(place, handle):
                with suppress(OSError):  # on a full disk: it only says who has the lock
                    os.ftruncate(handle, 0)
                    os.write(handle, f"process {os.getpid()} on {os.uname().nodename}".encode())
                return handle, locked
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its owner has removed it since it was opened


def _is(place: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(place), os.fstat(handle))
    except FileNotFoundError:
        return False
