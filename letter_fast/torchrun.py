"""The variables that torchrun sets for its processes."""

from __future__ import annotations

import os
from typing import NamedTuple

_NEEDED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Place(NamedTuple):
    """This process among `size`: rank 0 … size − 1; local_rank among those of this machine."""

    rank: int
    local_rank: int
    size: int


def place() -> Place | None:
    """Of this process, or None where torchrun did not start it.

    Raises:
        ValueError: only a part of what torchrun says is there.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    missing = [name for name in _NEEDED if not os.environ.get(name)]
    if missing:
        raise ValueError(
            f"TORCHELASTIC_RUN_ID is set, as torchrun does, but {', '.join(missing)} not: start "
            "through torchrun, or unset it"
        )
    try:
        return Place(*(int(os.environ[name]) for name in _NEEDED[:3]))
    except ValueError as error:
        raise ValueError(f"RANK, LOCAL_RANK and WORLD_SIZE must be numbers: {error}") from error


def refuse_processes(what: str) -> None:
    """ValueError where torchrun has started several processes; `what` is work for one only.

    Its message is the first process's; those of the others are empty.
    """
    here = place()
    if here is not None and here.size > 1:
        raise ValueError(
            "" if here.rank else f"{what} runs in one process: start it without torchrun"
        )
