"""One damaged input after another is read, or refused in one line, and leaves no half file."""

from __future__ import annotations

import random
import shutil
import signal
import tempfile
import traceback
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import torch

from .mutations import CODECS, damaged
from .targets import TARGETS, Target

# A reader of some kilobytes that takes so long has lost its way.
_SECONDS = 20
_LONGEST = 1500


class Fault(NamedTuple):
    """The fault that input `number` of a target brought out."""

    target: str
    number: int
    what: str


class Hang(BaseException):
    """The alarm."""


def faults(name: str, numbers: range, seed: int = 0, keep: Path | None = None) -> Iterator[Fault]:
    """The faults of these inputs of a target, each of which is a function of its number.

    keep: a folder for the inputs that fail.
    """
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as work:
        valid = Path(work) / "valid"
        valid.mkdir()
        target.make(valid)
        target.read(shutil.copytree(valid, Path(work) / "read"))  # as it is, it can be read
        for number in numbers:
            folder = Path(work) / "damaged"
            shutil.copytree(valid, folder)
            draw = random.Random(zlib.crc32(f"{name} {seed} {number}".encode()))
            path = draw.choice([path for one in target.files for path in sorted(folder.glob(one))])
            path.write_bytes(damaged(path.read_bytes(), CODECS.get(path.suffix), draw))
            content = path.read_bytes()
            if what := fault_of(target, folder):
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{name} {seed} {number}{path.suffix}").write_bytes(content)
                yield Fault(name, number, what)
            shutil.rmtree(folder)


def fault_of(target: Target, folder: Path) -> str | None:
    """The fault in how this input is read; None if there is none."""
    before = _listing(folder)
    signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, _SECONDS)
    torch.manual_seed(0)
    try:
        target.read(folder)
    except (ValueError, OSError) as error:
        message = str(error)
        if not message or "\n" in message.strip():
            return f"not one line: {type(error).__name__}: {message!r}"
        if len(message) > _LONGEST:
            return f"a line of {len(message)} characters: {message[:200]}…"
    except Hang:
        return f"no end after {_SECONDS} s"
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)
        own = [one for one in last if "letter_fast" in one.filename or "/kernels/" in one.filename]
        where = own[-1] if own else last[-1]
        return f"{type(error).__name__}: {str(error)[:150]!r} in {where.filename}:{where.lineno}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    extra = _listing(folder) - before
    left = {one for one in extra if ".part" in one or not one.startswith(target.made or ("/",))}
    return f"left behind: {sorted(left)}" if left else None


def _listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def _give_up(_signal: int, _frame: FrameType | None) -> None:
    raise Hang
