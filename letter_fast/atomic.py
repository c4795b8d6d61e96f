"""Files that exist whole or not at all, and the places where they can't."""

from __future__ import annotations

import io
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from .locks import try_lock
from .paths import beside, local_path

_TOKEN = "0123abcd"  # eight characters stand between a file's name and .part
# As many symbolic links as the system follows.
_LINKS = 40
# What this process is writing, for the end that runs no `finally`.
_parts: set[Path] = set()


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file that becomes `path` when the block ends, and nothing if the block fails.

    Written beside `path` and synced to disk before it takes the name, so that neither a crash nor a
    full disk leaves half a file there; of two writers at once the last wins. A symbolic link stays,
    and what it points to is replaced. An existing file's permissions stay, and its owner where
    that is allowed. What killed writers of the same file left is removed.
    Raises:
        ValueError: as `check_target`.
        OSError: the file can't be written; it names `path`, whatever library was writing.
    """
    target = check_target(path)
    make_folder(target.parent)
    _remove_abandoned(target)
    before = os.stat(target) if target.exists() else None
    part, raw = _new_part(target, 0o666 if before is None else 0o600)
    file = io.BufferedWriter(raw)
    try:
        yield cast(BinaryIO, file)
        file.flush()
        if before is not None:
            _take_permissions(raw.fileno(), before)
        os.fsync(raw.fileno())
        os.replace(part, target)
    except BaseException as error:
        raw.abandoned = True
        part.unlink(missing_ok=True)
        cause = raw.failure or error
        if isinstance(cause, OSError) and cause.filename in (None, str(part)):
            # A full disk does not say whose write failed.
            cause.filename, cause.filename2 = os.fspath(path), None
        if cause is error or not isinstance(error, Exception):
            raise
        raise cause from error
    finally:
        _parts.discard(part)
        file.close()  # and with it the lock


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Makes `path` hold exactly `content`."""
    with replacing(path) as file:
        file.write(content)


def check_target(
    path: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str] | None] = ()
) -> Path:
    """The place of a file called `path`: the end of its symbolic links.

    inputs: what the same command reads.
    Raises:
        ValueError: no file can be written there, or it is an input. Called before the work that
            would be lost.
    """
    given = local_path(path)
    _check_is_none_of(given, inputs)
    with suppress(FileNotFoundError, NotADirectoryError):
        kind = os.stat(given).st_mode
        if stat.S_ISDIR(kind):
            raise ValueError(f"{given} is a folder; give the name of a file")
        if not stat.S_ISREG(kind) or _is_stream(given):
            raise ValueError(f"{given} is {_kind(kind)}, which can't be replaced: give a file")
        if not os.access(given, os.W_OK):
            raise ValueError(f"{given} can't be written: it is read-only")
    target = Path(os.path.realpath(given))
    parent = next(folder for folder in target.parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise ValueError(f"{given} can't be written: {parent} is not a writable folder")
    return target


def make_folder(path: str | os.PathLike[str]) -> Path:
    """The folder `path`, made if need be; ValueError if files can't be written there."""
    folder = check_folder(path)
    # mkdir alone does not follow a link whose end is not there yet.
    Path(os.path.realpath(folder)).mkdir(parents=True, exist_ok=True)
    return folder


def check_folder(
    path: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str] | None] = ()
) -> Path:
    """`path`, if it is, or can become, a folder to write to; inputs as of `check_target`.

    Raises:
        ValueError: it is, or lies below, a file, or is not writable, or is an input.
    """
    folder = local_path(path)
    _check_is_none_of(folder, inputs)
    place = Path(os.path.realpath(folder))
    there = next(one for one in (place, *place.parents) if os.path.lexists(one))
    if not there.is_dir() or _is_stream(folder):
        raise ValueError(f"{folder} can't be a folder: there is a file of that name")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"{folder} can't be written: {there} is not a writable folder")
    return folder


def _check_is_none_of(path: Path, inputs: Iterable[str | os.PathLike[str] | None]) -> None:
    for one in inputs:
        with suppress(OSError):
            if one is not None and os.path.samefile(path, one):
                raise ValueError(f"{path} is an input of this command: choose another output")


def remove_parts() -> None:
    """Removes what this process is writing, just before it ends without unwinding."""
    for part in list(_parts):
        with suppress(OSError):
            part.unlink()


class _Part(io.FileIO):
    """A file that remembers why a write failed: some libraries raise something else instead."""

    failure: OSError | None = None
    abandoned = False

    def write(self, data: Any) -> int:
        if self.abandoned:  # what a failed block left in the buffer
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except OSError as error:
            self.failure = self.failure or error
            raise


def _new_part(target: Path, mode: int) -> tuple[Path, _Part]:
    """A new file beside `target`, locked, so that no other run takes it for an abandoned one."""
    while True:
        part = beside(target, f".{secrets.token_hex(len(_TOKEN) // 2)}.part", prefix=".")
        file = _Part(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode), "wb")
        _parts.add(part)
        if try_lock(file.fileno()) is not False and os.fstat(file.fileno()).st_nlink:
            return part, file
        file.close()  # another writer has taken it for an abandoned one before it was locked
        _parts.discard(part)


def _remove_abandoned(target: Path) -> None:
    """Removes the parts of `target` whose writers are gone; where nothing can be locked, none."""
    pattern = re.escape(beside(target, f".{_TOKEN}.part", prefix=".").name)
    abandoned = re.compile(pattern.replace(_TOKEN, r"\w{8}"))
    for entry in os.scandir(target.parent):
        if abandoned.fullmatch(entry.name):
            with suppress(OSError):
                handle = os.open(entry.path, os.O_RDONLY)
                try:
                    if try_lock(handle):
                        os.unlink(entry.path)
                finally:
                    os.close(handle)


def _take_permissions(handle: int, before: os.stat_result) -> None:
    now = os.fstat(handle)
    if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
        for user in (before.st_uid, -1):  # who isn't root may still hand it to a group of theirs
            try:
                os.fchown(handle, user, before.st_gid)
                break
            except PermissionError:
                continue
    os.fchmod(handle, stat.S_IMODE(before.st_mode))


def _is_stream(path: Path) -> bool:
    """Whether it names an open file of some process, as /dev/stdout does, perhaps through links."""
    place = os.path.abspath(path)
    for _ in range(_LINKS):
        if place.startswith(("/proc/", "/dev/fd/")):
            return True
        if not os.path.islink(place):
            break
        place = os.path.abspath(os.path.join(os.path.dirname(place), os.readlink(place)))
    return False


def _kind(mode: int) -> str:
    for name, test in (("pipe", stat.S_ISFIFO), ("socket", stat.S_ISSOCK)):
        if test(mode):
            return f"a {name}"
    return "a device" if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else "an open stream"
