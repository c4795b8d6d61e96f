"""The terminal, as all commands use it: progress on stderr, results on stdout."""

from __future__ import annotations

import codecs
import json
import math
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for machines.")]

OtherModel = Annotated[
    bool, typer.Option("--other-model", help="The ID table is another model's, and that is meant.")
]
WithRemoved = Annotated[
    bool, typer.Option("--with-removed", help="Also items that the table marks as removed.")
]


def numbers(text: str | None) -> tuple[int, ...] | None:
    """ "256,256,64" as integers; ValueError otherwise."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"{text!r} must be integers joined by commas, like 256,256,256") from error


def decimals(text: str | None) -> tuple[float, ...] | None:
    """ "0,0,0.003" as floats; ValueError otherwise."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"{text!r} must be numbers joined by commas, like 0,0,0.003") from error


# What commands print beyond ASCII, in signs of the same width, for terminals that know no other.
_PLAIN = str.maketrans("−–«»·…×→↓↑≤≥αβγε", '--"".~x>v^<>abge')


def print_anywhere() -> None:
    """Lets stdout and stderr write what their encoding lacks: a table must not end the command."""
    codecs.register_error("letter_fast_plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not where a program has put another object
            stream.reconfigure(errors="letter_fast_plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    wanted = error.object[error.start : error.end].translate(_PLAIN)
    return "".join(sign if sign.isascii() else "?" for sign in wanted), error.end


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout."""
    print(json.dumps(value, indent=2, default=repr))  # of ids that are bytes


@contextmanager
def progress(unit: str, shown: bool = True, every: float = 60.0) -> Iterator[Any]:
    """A rich progress bar with rate and time left, on stderr; tasks may carry a `note`.

    It vanishes if the work fails, so that what is left on stderr is the one line that says why.
    Where there is no terminal, there is a line at intervals instead.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:,.1f} {unit}/s" if speed else "", style="cyan")

    console = Console(stderr=True)
    if not (shown and console.is_terminal):
        with Lines(unit, shown, every) as lines:
            yield lines
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        TextColumn("{task.fields[note]}"),
        console=console,
    ) as bar:
        try:
            yield bar
        except BaseException:
            bar.live.transient = True
            raise


class Lines:
    """Progress for a log: training: 12 of 200 epochs, 3.1 epochs/s, 2 min left, loss 0.0731

    every: seconds between lines; the first comes after as many.
    """

    def __init__(self, unit: str, shown: bool = True, every: float = 60.0) -> None:
        self._unit, self._shown, self._every = unit, shown, every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._facts: dict[str, Any] = {}
        # When the work began, and how much of it an earlier run had done by then.
        self._began, self._found = time.monotonic(), 0

    def __enter__(self) -> Lines:
        if self._shown:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._shown:
            self._thread.join()

    def add_task(self, description: str, **facts: Any) -> None:
        """Begins the next piece of work, which is the one that lines are about."""
        self._began = time.monotonic()
        self._facts = {"description": description, "completed": 0, **facts}

    def update(self, _: None, **facts: Any) -> None:
        """Sets what has changed: completed, total, note, description."""
        if self._facts["completed"] == 0 and facts.get("completed", 0) > 1:
            self._began, self._found = time.monotonic(), facts["completed"]
        self._facts |= facts

    def line(self) -> str:
        """The line as of now."""
        facts, unit = self._facts, self._unit
        seconds = time.monotonic() - self._began
        rate = (facts["completed"] - self._found) / max(seconds, 1e-9)
        total = facts.get("total") or 0
        whole = f" of {total:,}" if total else ""
        parts = [f"{facts['description']}: {facts['completed']:,}{whole} {unit}"]
        if rate and facts["completed"] < total:
            left = math.ceil((total - facts["completed"]) / rate / 60)
            parts += [f"{rate:,.3g} {unit}/s", f"{left:,} min left"]
        else:
            parts.append(f"{seconds / 60:,.0f} min so far")
        return ", ".join([*parts, *filter(None, [facts.get("note")])])

    def _run(self) -> None:
        while not self._over.wait(self._every):
            if self._facts:
                print(self.line(), file=sys.stderr, flush=True)
