"""What the commands share of the terminal: progress on stderr, results on stdout."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for machines.")]


def numbers(text: str | None) -> tuple[int, ...] | None:
    """ "256,256,64" as integers; ValueError otherwise."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"{text!r} must be integers joined by commas, like 256,256,256") from error


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout."""
    print(json.dumps(value, indent=2))


@contextmanager
def progress(unit: str, shown: bool = True) -> Iterator[Any]:
    """A rich progress bar with rate and time left, on stderr; tasks may carry a `note`.

    For people only: nothing is drawn into a file. It vanishes if the work fails, so that what is
    left on stderr is the one line that says why.
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
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not (shown and console.is_terminal),
    ) as bar:
        try:
            yield bar
        except BaseException:
            bar.live.transient = True
            raise
