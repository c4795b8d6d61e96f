"""Triton's interpreter with several programs that wait for one another.

It runs a grid's programs one after the other, so that one that waits for the rest would wait for
ever. Here each is a thread; one runs at a time, from one wait to the next, and the order of each
phase is a random one. What a program reads of another one's before a wait, where it should be after
it, is then missing or old in some order.
"""

from __future__ import annotations

import inspect
import math
import operator
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

from tests.support import triton_backend  # noqa: F401  (first: it has Triton interpret)
from tests.support.stepwise import Stepwise

# isort: split
import triton.language as tl  # noqa: F401  (the interpreter patches it by way of these globals)
from triton.runtime import interpreter
from triton.runtime.interpreter import GridExecutor


class Grid:
    """The programs of a launch."""

    def __init__(self, order: random.Random, forgotten: int | None) -> None:
        self._order, self._forgotten = order, forgotten
        self._running: _Program | None = None
        self.waits = 0
        """Of each program."""

    def run(self, bodies: Sequence[Callable[[], object]]) -> None:
        programs = [_Program(body) for body in bodies]
        for program in programs:
            program.start()
        alive = list(enumerate(programs))
        while alive:
            for place, program in self._order.sample(alive, len(alive)):
                interpreter.interpreter_builder.set_grid_idx(place, 0, 0)
                self._running = program
                program.advance()
            left = [(place, program) for place, program in alive if not program.over]
            assert len(left) in (0, len(alive)), "some programs wait for others that have ended"
            alive = left
        for program in programs:
            if program.error is not None:
                raise program.error

    def wait_for_all(self, arrived: Any, round: Any) -> None:
        """In place of the kernel's own. The `forgotten` one does nothing."""
        assert self._running is not None
        self._running.waits += 1
        assert operator.index(round) == self._running.waits, "a round is one more than the last"
        self.waits = max(self.waits, self._running.waits)
        if self._running.waits != self._forgotten:
            self._running.pause()


class _Program(Stepwise):
    """A program and how often it has waited."""

    def __init__(self, body: Callable[[], object]) -> None:
        super().__init__(body)
        self.waits = 0


@contextmanager
def many_programs(
    kernels: Any, host: Any, count: int, seed: int, forgotten: int | None = None
) -> Iterator[Grid]:
    """Within it, kernels of the module `kernels`, whose `wait_for_all` is where they wait, run so.

    count: how many programs run at once, as `co_resident` tells the module `host`.
    """
    grid = Grid(random.Random(seed), forgotten)
    start = GridExecutor.__init__

    def init(self: Any, fn: Any, *rest: Any) -> None:
        start(self, fn, *rest)
        bodies: list[Callable[[], object]] = []

        def together(**arguments: Any) -> None:
            bodies.append(lambda: fn(**arguments))
            if len(bodies) == math.prod(self.grid):
                grid.run(bodies)

        together.__signature__ = inspect.signature(fn)  # type: ignore[attr-defined]
        self.fn = together

    with (
        mock.patch.object(GridExecutor, "__init__", init),
        mock.patch.object(host, "co_resident", lambda work, device: min(work, count)),
        mock.patch.object(kernels, "wait_for_all", grid.wait_for_all),
    ):
        yield grid
