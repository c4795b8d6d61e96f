"""letter-fast: how commands are run and how they end: an exit code, and one line if it isn't 0.

Whatever can be is imported where it is used: until `main` is at work, Ctrl-C is a traceback.
"""

from __future__ import annotations

import os
import sys

from .interrupts import Interrupted, Watch

_SHOW_CURSOR = "\x1b[?25h"


def main() -> None:
    """Entry point of the `letter-fast` script."""
    try:
        watch = Watch(give_up=_give_up)
        _prepare()
        code = run(sys.argv[1:])
        watch.over = True
    except Interrupted as error:  # where `run` was not at work yet, or not any more
        code = _fail(str(error), error.code)
    sys.exit(code)


def _prepare() -> None:
    import threading
    import warnings

    from .terminal import print_anywhere

    print_anywhere()

    def told(what: threading.ExceptHookArgs) -> None:
        # TensorBoard's thread fails on a full disk; who asks it to write next is told.
        if not isinstance(what.exc_value, OSError):
            threading.__excepthook__(what)

    threading.excepthook = told
    warnings.formatwarning = lambda message, *_: f"letter-fast: warning: {message}\n"


def run(arguments: list[str]) -> int:
    """Runs one command; 0, or 2 (interrupted: 128 + the signal) after one line on stderr."""
    try:
        from letter_fast.torchrun import refuse_processes

        from .commands import app

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
    """Flushes standard output: all must have arrived before the exit code says that it has."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python would try again
        error.filename = "standard output"
        raise


def _give_up(error: Interrupted) -> None:
    from letter_fast.atomic import remove_parts

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
