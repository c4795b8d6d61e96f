"""Triton's interpreter with several warps a program, in an order that a GPU might have.

Without this a program is one thread, which sees what it stored. Here each of its warps runs the
whole kernel on registers of its own, as warps do with a value whose layout is replicated over them:
all load, warp 0 alone stores. A warp runs to the next barrier before another one does. So

    warp 0 last    others load before it has stored      (a store that is under way for long)
    warp 0 first   others load after it has stored anew  (a warp that lags behind)

and where a barrier is missing, a warp reads what it should not. It is found out by what it stores:
warps that agree store the same values at the same places. A reduction is no barrier here, nor the
broadcast of an atomic's result; on a GPU they may be, which no kernel should count on.
"""

from __future__ import annotations

import inspect
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np

from tests.support import triton_backend  # noqa: F401  (first: it has Triton interpret)
from tests.support.stepwise import Stepwise

# isort: split
import triton.language as tl  # noqa: F401  (the interpreter patches it by way of these globals)
from triton.runtime.interpreter import GridExecutor, InterpreterBuilder, TensorHandle

WARPS = 3
# Which warp runs next, of those that still do, in each phase between two barriers.
ORDERS: dict[str, Callable[[list[int], random.Random], list[int]]] = {
    "warp 0 first": lambda warps, _: sorted(warps),
    "warp 0 last": lambda warps, _: sorted(warps, reverse=True),
    "any": lambda warps, chance: chance.sample(warps, len(warps)),
}


class _Warp(Stepwise):
    """A warp, its stores (places, values) and its atomics so far."""

    def __init__(self, body: Callable[[], object]) -> None:
        super().__init__(body)
        self.stores: list[tuple[bytes, bytes]] = []
        self.atomics = 0


class _Program:
    """One program of a grid."""

    def __init__(self, problems: list[str], order: str, without: tuple[str, int] | None) -> None:
        self._problems, self._order, self._without = problems, ORDERS[order], without
        self._chance = random.Random(0)
        self._warps: list[_Warp] = []
        self._running = 0
        self._results: list[Any] = []

    def run(self, body: Callable[[], object]) -> None:
        self._warps, self._results = [_Warp(body) for _ in range(WARPS)], []
        for warp in self._warps:
            warp.start()
        alive = [*range(WARPS)]
        while alive:
            for number in self._order(alive, self._chance):
                self._running = number
                self._warps[number].advance()
            left = [number for number in alive if not self._warps[number].over]
            if 0 < len(left) < len(alive):
                self._problems.append(f"warps {left} wait at a barrier that others never reach")
            alive = left
        for warp in self._warps:
            if warp.error is not None:
                raise warp.error
        if any(warp.stores != self._warps[0].stores for warp in self._warps):
            self._problems.append("warps store different values")

    def barrier(self, builder: InterpreterBuilder) -> None:
        if self._without is None or not _called_from(*self._without):
            self._warps[self._running].pause()

    def store(self, real: Any, *arguments: Any) -> Any:
        _, places, value, mask, *_ = arguments
        inside = np.broadcast_to(mask.data, places.data.shape)
        stored = np.broadcast_to(value.data, places.data.shape)[inside]
        self._warps[self._running].stores.append((places.data[inside].tobytes(), stored.tobytes()))
        return real(*arguments) if self._running == 0 else None

    def atomic(self, real: Any, *arguments: Any) -> TensorHandle:
        """Done once, by whoever comes first; the others get its result."""
        warp = self._warps[self._running]
        warp.atomics += 1
        if warp.atomics > len(self._results):
            self._results.append(real(*arguments))
        return self._results[warp.atomics - 1]


@contextmanager
def many_warps(order: str, without: tuple[str, int] | None = None) -> Iterator[list[str]]:
    """Within it, kernels run so; the list fills with what went wrong.

    without: a file's name and a line of it: the barrier there is taken away.
    """
    problems: list[str] = []
    program = _Program(problems, order, without)
    start = GridExecutor.__init__
    store, atomic = InterpreterBuilder.create_masked_store, InterpreterBuilder.create_atomic_rmw

    def init(self: Any, fn: Any, *rest: Any) -> None:
        start(self, fn, *rest)

        def in_warps(**arguments: Any) -> None:
            program.run(lambda: fn(**arguments))

        in_warps.__signature__ = inspect.signature(fn)  # type: ignore[attr-defined]
        self.fn = in_warps

    with (
        mock.patch.object(GridExecutor, "__init__", init),
        mock.patch.multiple(
            InterpreterBuilder,
            create_barrier=lambda builder: program.barrier(builder),
            create_masked_store=lambda *arguments: program.store(store, *arguments),
            create_atomic_rmw=lambda *arguments: program.atomic(atomic, *arguments),
        ),
    ):
        yield problems


def _called_from(file: str, line: int) -> bool:
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename.endswith(file) and frame.f_lineno == line:
            return True
        frame = frame.f_back
    return False
