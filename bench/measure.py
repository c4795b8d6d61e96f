"""The measurement: all peers take turns, round by round, so that a busy machine slows all alike.

Speed is rows a second. A slow peer gets fewer rows (the first ones), so that each turn takes about
as long; what machine and task would at best allow takes its turns like a peer.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from letter_fast import kernels, ops

from .peers import Encoder, Peer
from .workloads import Problem, Workload

_PROBE = 8  # a peer's settings are tried on N/8 rows
_LEAST = 0.02  # seconds: a turn that would be shorter repeats the call
_WHOLE_CHUNKS = 1024  # fewer rows than all are a multiple of this
_CHECKED = 1 << 25  # distances that the reference computes to check codes


@dataclass
class Lane:
    """One peer at one number of threads, and the time of each of its turns."""

    name: str
    setting: str
    threads: int
    rows: float  # a call's; for a limit, the rows whose distances it could have paid for
    role: str  # "ours", "peer" or "limit"
    differing: int | None = None  # rows whose codes are not the exact ones …
    checked: int = 0  # … of so many
    seconds: list[float] = field(default_factory=list)  # of one call, round by round

    @property
    def rates(self) -> list[float]:
        return [self.rows / second for second in self.seconds]

    @property
    def rate(self) -> float:
        """Rows a second, the median over rounds."""
        return float(median(self.rates))


class Clock(NamedTuple):
    """Seconds by the clock on the wall, and of this process on all CPUs."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Clock:
        return cls(time.perf_counter(), time.process_time())

    def since(self, began: Clock) -> Clock:
        return Clock(self.wall - began.wall, self.cpu - began.cpu)

    def least(self, other: Clock) -> Clock:
        return Clock(min(self.wall, other.wall), min(self.cpu, other.cpu))


class Turn(NamedTuple):
    """The work of a lane when it is its turn."""

    lane: Lane
    run: Callable[[], object]
    calls: int


@dataclass(frozen=True)
class Comparison:
    """The results of one workload. `left_out`: peer -> why it could not run."""

    workload: Workload
    rows: int
    lanes: list[Lane]
    left_out: dict[str, str]


def ratio(lane: Lane, other: Lane) -> float:
    """The speed of `lane` over that of `other`: the ratio of each round, then the median."""
    return float(median(a / b for a, b in zip(lane.rates, other.rates, strict=True)))


def share(lane: Lane, limits: Sequence[Lane]) -> float:
    """`lane`'s rate over that of the narrowest limit, round by round, then the median."""
    narrowest = [min(rates) for rates in zip(*(limit.rates for limit in limits), strict=True)]
    return float(median(rate / limit for rate, limit in zip(lane.rates, narrowest, strict=True)))


def by_threads(comparison: Comparison) -> list[list[Lane]]:
    """The lanes of each number of threads, the fewest first."""
    counts = sorted({lane.threads for lane in comparison.lanes})
    return [[lane for lane in comparison.lanes if lane.threads == count] for count in counts]


def quantity(value: float) -> str:
    """Three digits: 1.52 M, 19.7 k, 943."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


def compare(
    workload: Workload,
    problem: Problem,
    peers: Sequence[Peer],
    *,
    threads: Sequence[int],
    rounds: int,
    seconds: float,
    tell: Callable[[str], None],
) -> Comparison:
    """Times all peers at each number of threads, in turns.

    seconds: a call's, about, at most; slower peers get fewer rows.
    tell: is called with what is being done.
    """
    device, exact = problem.x.device, Exact(problem)
    turns: list[Turn] = []
    left_out: dict[str, str] = {}
    for peer in peers:
        tell(f"{workload.name}: preparing {peer.name}")
        try:
            with torch.no_grad():
                turns += [_prepare(peer, problem, exact, count, seconds) for count in threads]
        except Exception as error:
            if peer.ours:
                raise
            left_out[peer.name] = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
    for count in threads:
        turns += _limits(workload, device, count)
    for done in range(rounds):
        tell(f"{workload.name}: round {done + 1} of {rounds}, {len(turns)} measurements")
        for lane, run, calls in turns:
            with limited(lane.threads):
                lane.seconds.append(clock(run, calls, device))
    return Comparison(workload, len(problem.x), [lane for lane, _, _ in turns], left_out)


class Exact:
    """Codes of the first rows as the reference backend gives them, for each dtype of input."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._sizes = [len(words) for words in problem.codebooks]
        self.rows = min(len(problem.x), _CHECKED // sum(self._sizes))
        self._codes: dict[torch.dtype, Tensor] = {}

    def differing(self, codes: Tensor, dtype: torch.dtype) -> int:
        """The number of rows with any other code than the exact one. codes [≤ rows, L]"""
        if dtype not in self._codes:
            x = self._problem.x[: self.rows].to(dtype)
            with kernels.use_backend("reference"):
                found = ops.residual_search(
                    x, torch.cat(self._problem.codebooks), self._sizes, None, False
                )
            self._codes[dtype] = found[0]
        expected = self._codes[dtype][: len(codes)]
        return int((codes.to(expected.device) != expected).any(1).sum())


def _prepare(peer: Peer, problem: Problem, exact: Exact, threads: int, seconds: float) -> Turn:
    """The peer at its fastest setting, on as many rows as it does in the time."""
    device = problem.x.device
    x = problem.x.to(peer.dtype)
    probe = x[: max(1, len(x) // _PROBE)]
    with limited(threads):
        setting, encoder, spent = _fastest(peer, problem.codebooks, probe)
        fitting = int(len(probe) * seconds / spent)
        rows = len(x) if fitting >= len(x) else max(len(probe), fitting)
        part = x[: rows if rows < _WHOLE_CHUNKS else rows - rows % _WHOLE_CHUNKS]
        head = part[: exact.rows]
        codes = encoder.codes(encoder.encode(head))
        encoder.encode(part)  # a GPU peer may tune itself for this number of rows
        once = clock(lambda: encoder.encode(part), 1, device)
    lane = Lane(
        peer.name,
        setting,
        threads,
        len(part),
        "ours" if peer.ours else "peer",
        exact.differing(codes, peer.dtype),
        len(head),
    )
    return Turn(lane, lambda: encoder.encode(part), math.ceil(_LEAST / once))


def _fastest(peer: Peer, codebooks: list[Tensor], x: Tensor) -> tuple[str, Encoder, float]:
    """The setting that encodes x in the least time. -> its name, encoder and seconds"""
    best: tuple[str, Encoder, float] | None = None
    failure: Exception | None = None
    for setting, build in peer.settings.items():
        try:
            encoder = build(codebooks)
            encoder.encode(x)  # loads, compiles, warms up
            spent = min(clock(partial(encoder.encode, x), 1, x.device) for _ in range(2))
        except Exception as error:
            failure = error
            continue
        if best is None or spent < best[2]:
            best = setting, encoder, spent
    if best is None:
        raise failure or ValueError(f"{peer.name} has no settings")
    return best


def _limits(workload: Workload, device: torch.device, threads: int) -> list[Turn]:
    """The limits of a plain float32 search: the matrix product, and on a GPU also memory."""
    # Square products of these sizes; the fastest is the limit.
    widths = (8192,) if device.type == "cuda" else (1024, 2048)
    products = [_product(width, device) for width in widths]
    with limited(threads):
        for run, _ in products:
            run()
        run, flop = max(products, key=lambda product: product[1] / clock(product[0], 1, device))
        once = clock(run, 1, device)
    name = "TF32 product (limit)" if device.type == "cuda" else "fp32 sgemm (limit)"
    lane = Lane(name, "", threads, flop / workload.flop, "limit")
    found = [Turn(lane, run, math.ceil(_LEAST / once))]
    if device.type == "cuda":
        source = torch.ones(1 << 28, device=device)
        target = torch.empty_like(source)
        rows = 2 * source.nbytes / workload.bytes  # read and written
        lane = Lane("memory copy (limit)", "", threads, rows, "limit")
        found.append(Turn(lane, lambda: target.copy_(source), 20))
    return found


def _product(width: int, device: torch.device) -> tuple[Callable[[], object], int]:
    generator = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(width, width, generator=generator, device=device) for _ in range(2))
    out = torch.empty_like(a)

    def run() -> None:
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if a.is_cuda else "highest")
        torch.mm(a, b, out=out)
        torch.set_float32_matmul_precision(precision)

    return run, 2 * width**3


def clock(run: Callable[[], object], calls: int, device: torch.device) -> float:
    """Seconds of one of `calls` calls."""
    with torch.no_grad():
        if device.type == "cuda":
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            start.record()
            for _ in range(calls):
                run()
            stop.record()
            stop.synchronize()
            return float(start.elapsed_time(stop)) / 1e3 / calls
        begin = time.perf_counter()
        for _ in range(calls):
            run()
        return (time.perf_counter() - begin) / calls


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Sets the number of threads of torch, of our kernels (which follow torch) and of faiss."""
    before = torch.get_num_threads()
    _set_threads(threads)
    try:
        yield
    finally:
        _set_threads(before)


def _set_threads(threads: int) -> None:
    torch.set_num_threads(threads)
    if faiss := sys.modules.get("faiss"):
        faiss.omp_set_num_threads(threads)
