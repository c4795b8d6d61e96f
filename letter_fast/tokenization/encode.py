"""Embeddings → batches → encoder → residual search → codes, whatever the number of rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from letter_fast.catalog import Embeddings
from letter_fast.catalog.batching import ahead, in_threads
from letter_fast.catalog.embeddings import Floats
from letter_fast.model import Tokenizer

from .digests import Digests, row_digests
from .finished import Encoded, FinishedShards

Result = TypeVar("Result")

# Batches that may wait to be saved.
_UNSAVED = 64
# Numbers of latents that are kept instead of encoded again, 8 MB: those of a night's new items.
_KEPT = 1 << 21


def encode_rows(
    model: Tokenizer,
    catalog: Embeddings,
    rows: NDArray[np.int64],
    *,
    margins: bool = False,
    batch_size: int = 4096,
    finished: FinishedShards | None = None,
    latents: LatentsOnDemand | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> Encoded:
    """The codes of chosen rows; of embeddings and latents a few batches at a time are held.

    rows [R] ascending; margins: also the gap to the runner-up at each level;
    finished: codes of an earlier run, which are not computed again, and where new ones go;
    latents: of the same rows, told what is encoded here;
    on_batch: called with the rows done, at first with those that were finished.
    """
    levels = model.quantizer.levels
    encoded = Encoded(
        np.empty((len(rows), levels), dtype=np.int32),
        np.empty(len(rows), dtype=np.uint64),
        np.empty((len(rows), levels), dtype=np.float32) if margins else None,
    )
    missing = np.arange(len(rows)) if finished is None else finished.load(encoded)
    tell = on_batch or (lambda _: None)
    tell(len(rows) - len(missing))
    wanted = rows if len(missing) == len(rows) else rows[missing]
    batches = ahead(catalog.batches_of(wanted, batch_size))

    def encode(batch: Floats) -> tuple[Encoded, Tensor | None]:
        z = latents_of(model, batch)
        found = codes_of(model, z, row_digests(batch), margins)
        return found, z if latents is not None and latents.are_few else None

    coded = _each(model, encode, batches)
    done = 0
    # A disk takes its time to say that a shard is safe; encoding goes on meanwhile.
    with closing(coded), ThreadPoolExecutor(1, "letter-fast-writer") as writer:
        saving: deque[Future[None]] = deque()
        for part, z in coded:
            places = missing[done : done + len(part.codes)]
            for array, some in zip(encoded.arrays().values(), part.arrays().values(), strict=True):
                array[places] = some
            if latents is not None and z is not None:
                latents.keep(places, z)
            done += len(places)
            if finished is not None:
                upcoming = int(missing[done]) if done < len(missing) else len(rows)
                saving.append(writer.submit(finished.save, encoded, places, upcoming))
            while saving and (saving[0].done() or len(saving) > _UNSAVED):
                saving.popleft().result()
            tell(len(rows) - len(missing) + done)
        for one in saving:
            one.result()
    return encoded


def latents_of(model: Tokenizer, batch: Floats) -> Tensor:
    """Latents on the model's device, a row's bits the same in every batch. [B, S] -> z [B, D]"""
    return model.encode_latents(torch.from_numpy(batch).to(model.quantizer.codebooks.device))


def codes_of(model: Tokenizer, z: Tensor, digests: Digests, margins: bool = False) -> Encoded:
    """The codes of latents [B, D], on the CPU."""
    found = model.quantizer.encode(z, return_margin=margins)
    if isinstance(found, Tensor):
        return Encoded(found.int().cpu().numpy(), digests, None)
    return Encoded(found.codes.int().cpu().numpy(), digests, found.margin.cpu().numpy())


class LatentsOnDemand:
    """Latents of chosen rows of a catalog, encoded again when asked for: the same bits. [R, D]

    Few of them may be kept, as they are encoded; they serve once they are all there.
    rows [R] ascending
    """

    made_the_codes = True  # the nearest ones, level by level

    def __init__(
        self,
        model: Tokenizer,
        catalog: Embeddings,
        rows: NDArray[np.int64],
        batch_size: int = 4096,
    ) -> None:
        self.shape = (len(rows), model.quantizer.dim)
        self._model, self._catalog, self._rows, self._size = model, catalog, rows, batch_size
        self.are_few = len(rows) * model.quantizer.dim <= _KEPT
        self._kept = torch.empty(self.shape if self.are_few else (0, 0))
        self._missing = len(rows)

    def keep(self, places: NDArray[np.int64], latents: Tensor) -> None:
        """Takes those of rows[places], each once, where they `are_few`. [n], [n, D]"""
        self._kept[torch.from_numpy(places)] = latents.detach().float().cpu()
        self._missing -= len(places)

    def __getitem__(self, places: NDArray[np.int64]) -> Tensor:
        """Latents of rows[places]. places [n] -> [n, D] float32 on the CPU"""
        if self.are_few and not self._missing:
            return self._kept[torch.from_numpy(places)]
        order = np.argsort(places, kind="stable")
        latents = torch.empty(len(places), self.shape[1])
        done = 0
        batches = ahead(self._catalog.batches_of(self._rows[places[order]], self._size))
        for part in _each(self._model, lambda batch: latents_of(self._model, batch), batches):
            latents[torch.from_numpy(order[done : done + len(part)])] = part.cpu()
            done += len(part)
        return latents


def _each(
    model: Tokenizer, function: Callable[[Floats], Result], batches: Iterator[Floats]
) -> Generator[Result, None, None]:
    """function(batch) of each, on a CPU by several threads."""
    if model.quantizer.codebooks.device.type != "cpu":
        yield from map(function, batches)
        return
    yield from in_threads(function, batches)
