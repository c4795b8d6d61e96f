"""Paths of this machine, told apart from addresses that nothing here serves; names beside names."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

_NAME_BYTES = 255
# A scheme has two letters at least: one is a drive. Path("s3://b/x") is s3:/b/x, Path("s3://") s3:.
_ADDRESS = re.compile(r"(?P<scheme>(?:\w+::)*[a-z][a-z0-9+.-]+):(?:/+(?P<rest>.*)|$)", re.I | re.S)


def local_path(path: str | os.PathLike[str]) -> Path:
    """`path`, if it can name a file or folder of this machine.

    Every path that a user gives goes through here once, before anything is read or written.
    Raises:
        ValueError: it is an address (scheme://…, also where a Path has eaten a slash), is empty or
            no path at all. A folder whose name ends in ":" can be given by its absolute path.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(text := os.fspath(path), str):
        raise ValueError(f"a path must be a str or a pathlib.Path, got {type(path).__name__}")
    if not text or "\0" in text:
        raise ValueError(f"{text!r} can't be a path: it {'holds a NUL' if text else 'is empty'}")
    address = _ADDRESS.match(text)
    if address is None:
        return Path(text)
    scheme, rest = address["scheme"], address["rest"] or ""
    if scheme.lower() == "file":
        raise ValueError(f"{text} is an address: give the path alone, /{rest}")
    if scheme.lower() == "hf":
        raise ValueError(
            f"{scheme}://{rest} is not on this machine: download the files (hf download) and give "
            "their local path; models of the hub go by their name alone, in from_pretrained"
        )
    raise ValueError(
        f"{scheme}://{rest} is not on this machine, and nothing here reads or writes {scheme}://: "
        "give a local path, and copy the file from or to there"
    )


def beside(path: Path, suffix: str, prefix: str = "") -> Path:
    """`path` with something added to its name, which is cut where it would become too long.

    So every legal name (255 bytes at most) has the files that belong to it.
    """
    name = os.fsencode(path.name)
    room = _NAME_BYTES - len(prefix) - len(suffix)
    if len(name) <= room:
        return path.with_name(f"{prefix}{path.name}{suffix}")
    digest = hashlib.sha256(name).hexdigest()[:16]
    cut = name[: room - len(digest) - 1].decode(errors="ignore")
    return path.with_name(f"{prefix}{cut}~{digest}{suffix}")
