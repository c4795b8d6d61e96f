"""Processes that train one model together, each on its part of every batch.

Encoder and decoder, where the work is, run on a process's own rows; their gradients are added. The
steps that need a whole batch (search, Sinkhorn, the losses between rows) get the latents of all
rows, and every process does them: so the codebooks stay equal without being sent, and the result is
that of one process, but for rounding.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from letter_fast.model import Share
from letter_fast.torchrun import place

P = ParamSpec("P")
T = TypeVar("T")


class Ranks:
    """One of `size` processes, all of which call the same methods in the same order.

    rank 0 … size − 1, device of its tensors.
    Raises:
        ConnectionError: from any method, soon after another process has ended.
    """

    def __init__(self, rank: int, size: int, device: torch.device) -> None:
        self.rank, self.size, self.device = rank, size, device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.rank == 0

    def own(self, rows: int) -> slice:
        """This process's part of `rows` rows: sizes differ by one at most."""
        return slice(rows * self.rank // self.size, rows * (self.rank + 1) // self.size)

    def share(self, rows: int) -> Share:
        """This process's part of a batch of `rows` rows, for `Letter.losses`."""
        if self.size == 1:
            return Share.whole(rows)
        own = self.own(rows)

        def join(part: Tensor) -> Tensor:
            whole = part.new_zeros(rows, *part.shape[1:])
            whole[own] = part.detach()
            self.add(whole)
            return torch.cat([whole[: own.start], part, whole[own.stop :]])

        return Share(own, join)

    def add(self, values: Tensor) -> None:
        """Replaces `values`, wherever they lie, by their sum over the processes."""
        if self.size > 1:
            here = values.to(self.device)
            with _in_touch():
                dist.all_reduce(here)
            if here is not values:
                values.copy_(here)

    def add_gradients(self, parameters: Iterable[nn.Parameter], repeated: Tensor) -> None:
        """Replaces gradients by their sum over the processes; that of `repeated` by its mean,
        because every process has computed all of it."""
        if self.size == 1:
            return
        if repeated.grad is not None:
            repeated.grad /= self.size
        gradients = [one.grad for one in parameters if one.grad is not None]
        together = nn.utils.parameters_to_vector(gradients)
        self.add(together)
        nn.utils.vector_to_parameters(together, gradients)

    def spread(self, values: Iterable[Tensor]) -> None:
        """Broadcasts the first process's values to all, in place."""
        if self.size > 1:
            for value in values:
                with _in_touch():
                    dist.broadcast(value, 0)

    def ask_first(self, compute: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """compute(*args, **options), or the ValueError it raises, of the first process.

        Tensors in it are to be on the CPU.
        """
        if self.size == 1:
            return compute(*args, **options)
        sent: list[Any] = [None]
        if self.first:
            try:
                sent[0] = compute(*args, **options)
            except ValueError as error:
                sent[0] = error
        with _in_touch():
            dist.broadcast_object_list(sent, 0, device=self.device)
        answer: Any = sent[0]
        if isinstance(answer, ValueError):
            raise answer
        return cast(T, answer)


def is_first_process() -> bool:
    """Whether this process is alone, or the one of several under torchrun that talks."""
    here = place()
    return here is None or here.rank == 0


def own_device(device: torch.device) -> torch.device:
    """`device`, but for "cuda" under torchrun: there each process of a machine has its own."""
    here = place()
    if device == torch.device("cuda") and here is not None:
        return torch.device("cuda", here.local_rank)
    return device


def join(device: torch.device) -> Ranks:
    """The processes of an initialized process group, or those that torchrun started, or this one.

    device: the model's, see `own_device`. A group that torchrun's processes form here is kept to
    their end: later runs are its as well.
    """
    if not dist.is_available() or (place() is None and not dist.is_initialized()):
        return Ranks(0, 1, device)
    device = own_device(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)
    return Ranks(dist.get_rank(), dist.get_world_size(), device)


@contextmanager
def _in_touch() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # which is all that gloo and NCCL promise
        raise ConnectionError(
            "lost touch with another process of this run, which may have been killed: start all "
            f"of them again to go on from the last checkpoint ({str(error).splitlines()[0]})"
        ) from error
