"""letter-fast: how commands are run and how they end: an exit code, and one line if it isn't 0."""

from __future__ import annotations

import os
import sys
import warnings

from letter_fast.atomic import remove_parts
from letter_fast.torchrun import refuse_processes

from .interrupts import Interrupted, Watch

_SHOW_CURSOR = "\x1b[?25h"


def main() -> None:
    """Entry point of the `letter-fast` script."""
    warnings.formatwarning = lambda message, *_: f"letter-fast: warning: {message}\n"
    Watch(give_up=_give_up)
    from .terminal import print_anywhere  # here, where an import can be interrupted

    print_anywhere()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs one command; 0, or 2 (interrupted: 128 + the signal) after one line on stderr."""
    try:
        from .commands import app  # here, where an import can be interrupted

        if arguments[:1] != ["train"]:  # the only one that shares its work, of some models
            refuse_processes(arguments[0] if arguments else "letter-fast")
        result = app(arguments, standalone_mode=False)
        if result == 130:  # typer has met a KeyboardInterrupt
            return _fail("interrupted", code=130)
        _flush()
    except OSError as error:
        reason = error.strerror or str(error)
        return _fail(f"{error.filename}: {reason}" if error.filename else reason)
    except ValueError as error:
        return _fail(str(error))
    except Interrupted as error:
        return _fail(str(error), error.code)
    except KeyboardInterrupt:
        return _fail("interrupted", code=130)
    except Exception as error:
        # Usage errors: typer carries its own copy of click, whose classes have no public name.
        if hasattr(error, "format_message"):
            return _fail(error.format_message())
        raise
    return result if isinstance(result, int) else 0


def _flush() -> None:
    """What is printed is to have arrived before the command says that all is well."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python would try again
        error.filename = "standard output"
        raise


def _give_up(error: Interrupted) -> None:
    remove_parts()
    if sys.stderr.isatty():
        sys.stderr.write(_SHOW_CURSOR)
    _fail(str(error))
    sys.stderr.flush()


def _fail(message: str, code: int = 2) -> int:
    if message:  # empty where the command's help was printed instead
        print("letter-fast: " + " ".join(message.split()), file=sys.stderr)
    return code


if __name__ == "__main__":  # torchrun -m letter_fast.cli.app train …
    main()
