"""A thread that runs from pause to pause, whenever it is told to; Triton's interpreter has none."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Stepwise(threading.Thread):
    """Runs `body`, which calls `pause` wherever another thread may have its turn."""

    def __init__(self, body: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._body = body
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self.over = False
        self.error: BaseException | None = None

    def run(self) -> None:
        self._go.acquire()
        try:
            self._body()
        except BaseException as error:
            self.error = error
        self.over = True
        self._stopped.release()

    def advance(self) -> None:
        """To the next pause, or the end."""
        self._go.release()
        self._stopped.acquire()

    def pause(self) -> None:
        """Called by the body: the end of its turn."""
        self._stopped.release()
        self._go.acquire()
