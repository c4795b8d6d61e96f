"""Steps of a run as replays of one CUDA graph: the host launches the graph, not 140 kernels.

The first steps of a run are ordinary ones, which compile kernels, make tables and give the
optimizer its state. The next one is recorded, which computes nothing, and from then on each step of
that many rows copies its inputs to where the graph reads them and replays it. Any other batch, such
as an epoch's last, is an ordinary step. All of them are on one stream, as the graph must not wait
for another.

A graph holds addresses and numbers, so whatever changes from step to step is a tensor that stays
where it is: the rows, the groups, the seed of the partners and the learning rate (`Run`). The bits
are those of ordinary steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from letter_fast.model import LetterLosses

from .ranks import Ranks
from .run import Run

# Ordinary steps before the recorded one; one makes the optimizer's state, one more uses it.
ORDINARY_STEPS = 3


class Inputs(NamedTuple):
    """A step's numbers: s [B, S], h [B, H] or None, groups [ΣK] and seed [] int64, or None."""

    s: Tensor
    h: Tensor | None
    groups: Tensor | None
    seed: Tensor | None

    def tensors(self) -> list[Tensor]:
        """The tensors that there are."""
        return [each for each in self if each is not None]


class Graph:
    """The launches of a function, recorded once; a replay repeats them and gives its result."""

    def __init__(self) -> None:
        self._graph, self._stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        self._result: LetterLosses | None = None

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Everything within is on the graph's stream."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            yield
        torch.cuda.current_stream().wait_stream(self._stream)

    def record(self, call: Callable[[], LetterLosses]) -> None:
        """Other threads, such as the one that reads the next rows, may go on using the device."""
        with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
            self._result = call()

    def replay(self) -> LetterLosses:
        """Runs the graph again. -> its result, in the same tensors every time."""
        assert self._result is not None
        self._graph.replay()
        return self._result


class Capture:
    """The steps of a run."""

    def __init__(self, graph: Graph, run: Run) -> None:
        self.graph, self._rows = graph, run.settings.batch_size
        self._optimizer = run.optimizer
        self._done = 0
        self._fixed: Inputs | None = None
        self._latest: list[Tensor] = []

    def step(self, move: Callable[[Inputs], LetterLosses], inputs: Inputs) -> LetterLosses:
        """move: an ordinary step."""
        if len(inputs.s) != self._rows or self._done < ORDINARY_STEPS:
            self._done += len(inputs.s) == self._rows
            return move(inputs)
        if self._fixed is None:
            h, groups, seed = (each if each is None else each.clone() for each in inputs[1:])
            self._fixed = fixed = Inputs(inputs.s.clone(), h, groups, seed)
            with self._capturable():
                self.graph.record(lambda: move(fixed))
        else:
            for place, new, old in zip(self._fixed.tensors(), inputs.tensors(), self._latest):
                if new is not old:  # groups are an epoch's
                    place.copy_(new)
        self._latest = inputs.tensors()
        return self.graph.replay()

    @contextmanager
    def _capturable(self) -> Iterator[None]:
        """AdamW refuses to be captured without this flag and warns of steps with it. Of a fused one
        it changes nothing else."""
        for group in self._optimizer.param_groups:
            group["capturable"] = True
        yield
        for group in self._optimizer.param_groups:
            group["capturable"] = False


def capture_of(run: Run, ranks: Ranks, without_cf: int) -> Capture | None:
    """The capture of a run's steps; None without one.

    Raises:
        ValueError: it is to, and can't.
    """
    if not run.settings.capture:
        return None
    if ranks.size > 1:
        raise ValueError(f"capture is for one process, this run has {ranks.size}")
    if without_cf:
        raise ValueError(
            f"capture can't leave items out of the CF term: {without_cf} have no collaborative "
            "embedding, and choosing the others waits for the device"
        )
    if ranks.device.type != "cuda":
        raise ValueError(f"capture needs a CUDA device, the model is on {ranks.device}")
    return Capture(Graph(), run)
