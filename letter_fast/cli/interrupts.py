"""Ctrl-C and SIGTERM: work ends where it can go on, with one line, and without half-written files.

Python runs a signal's handler between two of its instructions. That is not soon enough in a kernel
that takes long, and too soon in an import, which some libraries turn into an error of their own. So
the handler waits for imports to end, and a thread waits for the main one.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Seconds: until work that does not end is ended; in which a second signal is taken for the first
# one's echo (a terminal and torchrun both send them); between looks at whether an import is over.
_PATIENCE, _ECHO, _AGAIN = 20.0, 1.0, 0.05


class Interrupted(BaseException):
    """Raised in the main thread. No KeyboardInterrupt: libraries have ways of their own with it."""

    hint = ""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number, self.code = number, 128 + number

    def __str__(self) -> str:
        name = f"interrupted ({signal.Signals(self.number).name})"
        return f"{name}: {self.hint}" if self.hint else name


@contextmanager
def resumable(hint: str) -> Iterator[None]:
    """Says of an interruption of this block how the work goes on."""
    try:
        yield
    except Interrupted as error:
        error.hint = hint
        raise


class Watch:
    """From here on signals raise `Interrupted`, once; those that are ignored (nohup, &) stay so.

    give_up: called in another thread before the process ends at once: after a second signal, or
        where the main thread has not ended long after the first.
    over: set when the work has ended, and told how; from then on a signal just ends the process.
    """

    def __init__(self, give_up: Callable[[Interrupted], None]) -> None:
        self._give_up = give_up
        self._armed, self._repeats = True, 0
        self.over = False
        seen, wake = os.pipe()
        os.set_blocking(wake, False)
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        sys.unraisablehook = self._unraisable
        threading.Thread(target=self._end, args=(seen,), daemon=True).start()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                self._again(number)
                return
            frame = frame.f_back
        if self._armed and not self.over:
            self._armed = False  # what ends the work is not to be interrupted itself
            raise Interrupted(number)

    def _again(self, number: int) -> None:
        """Has the handler called once more, soon."""

        def send() -> None:
            self._repeats += 1
            os.kill(os.getpid(), number)

        later = threading.Timer(_AGAIN, send)
        later.daemon = True
        later.start()

    def _unraisable(self, what: Any) -> None:
        """Python drops what is raised in a destructor or a callback, with words of its own."""
        if isinstance(what.exc_value, Interrupted):
            self._armed = True
            self._again(what.exc_value.number)
        else:
            sys.__unraisablehook__(what)

    def _end(self, seen: int) -> None:
        first, began = 0, 0.0
        while True:
            left = began + _PATIENCE - time.monotonic() if first else None
            if not select.select([seen], [], [], left)[0]:
                break
            number = os.read(seen, 1)[0]
            if self._repeats:
                self._repeats -= 1
            elif number in _SIGNALS and not first:
                first, began = number, time.monotonic()
            elif number in _SIGNALS and time.monotonic() - began > _ECHO:
                break
        error = Interrupted(first)
        if not self.over:
            self._give_up(error)
        os._exit(error.code)
