"""The folder that a run writes to: its log, its checkpoints and, at the end, the model."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from letter_fast.atomic import make_folder
from letter_fast.catalog import Embeddings
from letter_fast.locks import only_writer
from letter_fast.model import Letter

from .checkpoint import Checkpoints, load_checkpoint
from .journal import Journal
from .ranks import Ranks
from .run import Run


class Output:
    """A run's folder, kept to this run while the context is open; with `out` None it is none.

    Every process calls every method; only the first one reads and writes.
    Raises:
        ValueError: another run writes into the folder just now.
    """

    def __init__(self, out: str | os.PathLike[str] | None, ranks: Ranks) -> None:
        self._out, self._ranks, self._held = out, ranks, ExitStack()
        self._folder: Path | None = None
        self._checkpoints: Checkpoints | None = None
        self._journal: Journal | None = None

    def __enter__(self) -> Output:
        if self._out is not None:
            self._folder = self._ranks.ask_first(self._claim, self._out)
        return self

    def _claim(self, out: str | os.PathLike[str]) -> Path:
        folder = make_folder(out)
        self._held.enter_context(only_writer(folder))
        return folder

    def earlier(
        self, run: Run, catalog: Embeddings, targets: Embeddings | None, resume: bool
    ) -> dict[str, Any] | None:
        """The state to go on from, the same in every process; None if there is none.

        Raises:
            ValueError: as `load_checkpoint`.
        """
        if self._folder is None:
            return None
        return self._ranks.ask_first(self._load, run, catalog, targets, resume)

    def _load(
        self, run: Run, catalog: Embeddings, targets: Embeddings | None, resume: bool
    ) -> dict[str, Any] | None:
        assert self._folder is not None
        identity = {
            "model": run.model.config.to_dict(),
            "settings": run.settings.identity(),
            "embeddings": catalog.fingerprint(),
            "cf": targets.fingerprint() if targets is not None else "",
        }
        self._checkpoints = Checkpoints(self._folder, identity)
        return load_checkpoint(self._folder, identity, run.fits) if resume else None

    def begin(self, state: dict[str, Any] | None, tensorboard: bool) -> None:
        """Opens the log, less what it says of epochs after `state`, from which the run goes on."""
        if self._ranks.first and self._folder is not None:
            kept = state["journal"] if state else 0
            self._journal = self._held.enter_context(Journal(self._folder, kept, tensorboard))

    def write(self, record: dict[str, Any], run: Run) -> None:
        """Appends an epoch's record to the log; writes a checkpoint, if one is due."""
        if self._journal is None or self._checkpoints is None:
            return
        self._journal.write(record)
        due = run.over or run.epoch % run.settings.checkpoint_every == 0
        keep = self._checkpoints.save if due else self._checkpoints.keep
        keep({**run.state(), "journal": self._journal.size()})

    def save(self, model: Letter) -> None:
        """Writes the trained model."""
        if self._ranks.first and self._folder is not None:
            model.save_pretrained(self._folder)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._held:
            # Ctrl-C and other ends that aren't errors of the run lose no epoch.
            if self._checkpoints and kind is not None and not issubclass(kind, Exception):
                self._checkpoints.save_kept()
