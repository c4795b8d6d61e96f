"""The kernels, once per backend; all backends give the same codes.

A backend is a module with the functions of `Backend`. This file only says which one serves a
device.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol, cast

import torch
from torch import Tensor

from .cpp.library import NativeLibraryError
from .cpp.library import load as load_library
from .refusals import CODE_OUTSIDE, NO_GROUPS, NO_ROOM, NOT_FINITE

__all__ = [
    "BACKENDS",
    "CODE_OUTSIDE",
    "NOT_FINITE",
    "NO_GROUPS",
    "NO_ROOM",
    "Backend",
    "host",
    "pick",
    "use_backend",
]

BACKENDS = ("reference", "cpp", "triton")

_forced: ContextVar[str | None] = ContextVar("letter_fast_backend", default=None)


class Backend(Protocol):
    """What every backend offers. Inputs are trusted to have the shapes and dtypes named here
    (letter_fast/ops/checks.py). Codes outside their codebook and groups that are none raise
    ValueError on the CPU (refusals.py); on a GPU, which nobody waits for, they are trusted.

    x is float32, float16 or bfloat16 with any strides and is compared as float32; codebooks and
    offsets are contiguous. A row with NaN or Inf gets code −1, quantized 0, and NaN for every other
    number. A codeword with NaN or Inf is never chosen.
    """

    def nearest(self, x: Tensor, codebook: Tensor, offset: Tensor | None) -> tuple[Tensor, Tensor]:
        """argmin_k ‖x − e_k‖² + offset_k, the lowest k among equals.

        x [N, D], codebook [K, D] float32, offset [K] float64
        -> code [N] int64, score [N] float64
        """
        ...

    def nearest_bounded(
        self, x: Tensor, codebook: Tensor, codes: Tensor, bounds: Tensor, movement: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`nearest`, where the answer for an earlier codebook may spare the search.

        codes were the nearest codewords then (−1: not known), no other codeword was nearer to row i
        than bounds_i, and codeword k has since moved by at most movement_k.

        x [N, D], codebook [K, D] float32, codes [N] int64, bounds [N], movement [K] float32
        -> code [N] int64, score [N] float64, lower [N] float32: what bounds will be for the next
           call; 0 promises nothing
        """
        ...

    def cluster_sums(
        self, x: Tensor, codes: Tensor, count: int, exponent: int
    ) -> tuple[Tensor, Tensor]:
        """Σ rint(x · 2^exponent), to even in the middle, over the rows of each code; and how many.

        Integers: the same bits in any order. |x| · 2^exponent ≤ 2^51, and no sum reaches 2^63; rows
        of code −1 count nowhere and may hold anything.

        x [N, D], codes [N] int64 < count -> sums [count, D] int64, counts [count] int64
        """
        ...

    def residual_search(
        self,
        x: Tensor,
        codebooks: Tensor,
        sizes: list[int],
        offset: Tensor | None = None,
        with_quantized: bool = True,
        with_margins: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`nearest` chained over levels, r_l = fl32(r_{l−1} − e_c).

        x [N, D], codebooks [ΣK, D] float32, offset [ΣK] float64
        -> codes [N, L] int64, quantized [N, D] float32 (or [0, D] without `with_quantized`),
           margins and errors [N, L] float32 (or [0, L] without `with_margins`)
        """
        ...

    def residual_search_beam(
        self, x: Tensor, codebooks: Tensor, sizes: list[int], beam: int
    ) -> tuple[Tensor, Tensor]:
        """The best of `beam` partial paths by exact ‖r‖²; equal paths by lowest codes.

        x [N, D], codebooks [ΣK, D] float32 -> codes [N, L] int64, quantized [N, D] float32
        """
        ...

    def sinkhorn_codes(
        self, x: Tensor, codebook: Tensor, starts: Tensor, epsilon: float, sweeps: int
    ) -> Tensor:
        """Codes of each group of rows by Sinkhorn's uniform mapping, in float64.

        x [N, D], codebook [K, D] float32, starts [G + 1] int64 on the CPU: group g is the rows
        starts[g]:starts[g + 1]; epsilon ≥ 1e-300 -> codes [N] int64
        A row with NaN or Inf is no part of its group.
        """
        ...

    def balanced_lloyd(
        self,
        x: Tensor,
        centroids: Tensor,
        low: Tensor,
        high: Tensor,
        iterations: int,
        tolerance: float,
        exponent: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Lloyd's iterations of P problems; the last assignment is the cheapest with low ≤ sizes ≤
        high, earlier ones may fall short of bounds and optimum, each backend as suits it.

        Stops after `iterations` assignments, or when one lowers the cost by at most `tolerance` of
        it. Means are integer sums in units of 2^−exponent. Rows and centroids are finite.

        x [P, N, D], centroids [P, K, D] float32, low and high [K] int64
        -> centroids [P, K, D] float32 and labels [P, N] int64 of the last assignment, its cost
           Σ ‖x − e_label‖² and a proven lower bound of it, [P] float64
        """
        ...

    def kmeans_plusplus(self, points: Tensor, weights: Tensor, draws: Tensor) -> Tensor:
        """Greedy k-means++: of T points drawn ∝ weight · squared distance to the picks so far, the
        one that leaves least; the first pick is drawn ∝ weight.

        points [P, N, D] float32 and weights [P, N] float64: integers, with Σ weight · distance²
        < 2⁵³, so that sums are exact; draws [P, K, T] float64 in [0, 1) -> picks [P, K] int64, none
        twice while points are distinct.
        """
        ...

    def distinct_codes(
        self,
        x: Tensor,
        codebook: Tensor,
        starts: Tensor,
        home: Tensor,
        rank: Tensor,
        taken: Tensor,
        taken_starts: Tensor,
    ) -> Tensor:
        """Distinct codes within each group, none of them taken there, at the least Σ ‖x_i − e‖².

        Group g is the rows starts[g] … starts[g + 1] − 1, its taken codes those of `taken` between
        taken_starts[g] and [g + 1]; it has no more rows than codes that aren't taken. home: each
        row's nearest code; rank settles which of equal rows comes first.
        x [R, D], codebook [K, D] float32, contiguous; starts [G + 1], home and rank [R], taken [T],
        taken_starts [G + 1] int64 -> codes [R] int64
        """
        ...

    def evict_codes(
        self,
        x: Tensor,
        codebook: Tensor,
        starts: Tensor,
        home: Tensor,
        rank: Tensor,
        taken: Tensor,
        taken_starts: Tensor,
        capacity: int,
    ) -> Tensor:
        """In each group, codes that hold more rows than they have room for give rows away.

        A code has room for `capacity` rows less how often it is taken; the cheapest moves are made
        first. Arguments as for `distinct_codes`, home: any codes -> codes [R] int64
        """
        ...

    # The losses take contiguous float32 (the reference also float64) and return the same. The cpp
    # and the triton backend give the same bits from run to run, whatever the number of threads.

    def contrastive(
        self, q: Tensor, h: Tensor, with_gradient: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mean over i of log Σ_j exp(q_i·h_j) − q_i·h_i.

        q [B, D], h [M ≥ B, D]
        -> loss [], log_total [B] float64, gradient of q [B, D] or [0, D]
        """
        ...

    def contrastive_gradient_h(self, q: Tensor, h: Tensor, log_total: Tensor) -> Tensor:
        """q [B, D], h [M, D], log_total [B] float64 -> gradient of h [M, D]"""
        ...

    def diversity(
        self,
        codes: Tensor,
        codebooks: Tensor,
        sizes: list[int],
        groups: Tensor,
        seed: Tensor,
        with_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        """Per level the mean over rows of log Σ_{j≠c} exp(e_c·e_j) − e_c·e_t, t a random other
        codeword of c's group.

        codes [B, L] int64 (−1 counts nowhere), codebooks [ΣK, D], groups [ΣK] int64, seed [] int64
        -> losses [L], gradient of their sum [ΣK, D] or [0, D]
        """
        ...

    def residual_losses(
        self, x: Tensor, codebooks: Tensor, sizes: list[int], codes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """q = Σ_l e_{c_l} and Σ_i ‖r_l‖² of the walk r_l = r_{l−1} − e_{c_l}.

        x [N, D], codebooks [ΣK, D], codes [N, L] int64 (a row of −1 counts nowhere)
        -> quantized [N, D], errors [L] float64, counted [] int64
        """
        ...

    def residual_losses_backward(
        self,
        x: Tensor,
        codebooks: Tensor,
        sizes: list[int],
        codes: Tensor,
        errors: Tensor,
        grad_quantized: Tensor,
        weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """∂x = ∂q + Σ_l to_x_l r_l and ∂e_k = −Σ_{i: c_l = k} (own_l r_l + Σ_{m > l} later_m r_m).

        errors [L] as residual_losses gave them, which bound every sum; grad_quantized [N, D],
        weights [3, L] float64: to_x, own, later
        -> gradients of x [N, D] and of codebooks [ΣK, D]
        """
        ...


def pick(device: torch.device, dtype: torch.dtype = torch.float32) -> Backend:
    """The backend for `device`: that of `use_backend`, of LETTER_FAST_BACKEND, or the default.

    float64, which only losses take, is the reference's.

    Raises:
        ValueError: the backend asked for doesn't exist, or doesn't run on this device.
    """
    if dtype == torch.float64:
        return _load("reference")
    name = _forced.get() or os.environ.get("LETTER_FAST_BACKEND") or _default(device)
    if name == "cpp" and device.type != "cpu":
        raise ValueError(f"the cpp backend runs on the CPU, the tensors are on {device}")
    if name == "triton" and device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(
            "the triton backend runs on a GPU; on the CPU only in Triton's interpreter, with "
            "TRITON_INTERPRET=1 from the start"
        )
    return _load(name)


def host() -> Backend:
    """The backend of the CPU, for what another device's backend leaves to it."""
    return _load(_default(torch.device("cpu")))


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Runs every op inside the `with` block on one backend.

    Raises:
        ValueError: no backend has this name.
    """
    _load(name)
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def _load(name: str) -> Backend:
    if name not in BACKENDS:
        raise ValueError(f"there is no backend {name!r}; choose one of {', '.join(BACKENDS)}")
    try:
        return cast(Backend, import_module(f"{__name__}.{name}"))
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        raise ValueError(
            "the triton backend needs triton, which torch for CUDA brings: pip install triton"
        ) from error


@cache
def _default(device: torch.device) -> str:
    """The fastest backend that works here; one warning where it is only the reference."""
    if device.type == "cuda":
        if torch.version.hip is None and torch.cuda.get_device_capability(device) < (8, 0):
            warnings.warn(
                f"letter-fast runs on its slow reference backend: {device} has compute capability "
                f"{'.'.join(map(str, torch.cuda.get_device_capability(device)))}, and the error "
                "bounds of its kernels hold from 8.0 on",
                stacklevel=2,
            )
            return "reference"
        if find_spec("triton") is None:
            warnings.warn(
                "letter-fast runs on its slow reference backend: a GPU's kernels need triton: "
                "pip install triton",
                stacklevel=2,
            )
            return "reference"
        return "triton"
    if device.type == "cpu":
        try:
            load_library()
        except NativeLibraryError as error:
            warnings.warn(f"letter-fast runs on its slow reference backend: {error}", stacklevel=2)
        else:
            return "cpp"
    return "reference"
