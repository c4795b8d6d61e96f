"""Curves over epochs, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

_ACROSS = 3  # panels beside each other
_WIDE = 3.0  # an axis over more than this factor has room for labels at 1, 2, 5 only
_COLOURS = ("#d1495b", "#30475e", "#edae49", "#00798c", "#9aa5b1", "#66a182")


class Curve(NamedTuple):
    """A line; of several `runs` their mean, and a band from the lowest to the highest."""

    label: str
    epochs: Sequence[int]
    runs: Sequence[Sequence[float]]
    style: str = "-"


class Level(NamedTuple):
    """A value to compare with."""

    label: str
    value: float
    style: str = "--"


def draw(
    path: Path, panels: Mapping[str, Sequence[Curve]], title: str, levels: Sequence[Level] = ()
) -> None:
    """One panel for each quantity, its name beside its axis; log scale."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    columns = min(len(panels), _ACROSS)
    down = -(-len(panels) // columns)
    size = (3 + 3.5 * columns, 3.2 * down) if down > 1 else (4 + 4 * columns, 4.5)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    grid: Any = figure.subplots(down, columns, squeeze=False).flatten()
    for axes in grid[len(panels) :]:
        axes.remove()
    for axes, (name, lines) in zip(grid, panels.items()):
        for line, colour in zip(lines, _COLOURS):
            mean = [sum(values) / len(values) for values in zip(*line.runs)]
            axes.plot(line.epochs, mean, line.style, color=colour, label=line.label)
            if len(line.runs) > 1:
                least, most = (list(map(pick, zip(*line.runs))) for pick in (min, max))
                axes.fill_between(line.epochs, least, most, color=colour, alpha=0.2, linewidth=0)
        for level, colour in zip(levels, ("#30475e", "#9aa5b1")):
            axes.axhline(level.value, color=colour, linestyle=level.style, label=level.label)
        axes.set(xlabel="epoch", ylabel=name, yscale="log")
        low, high = axes.get_ylim()
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter(ScalarFormatter())
        if high > _WIDE * low:
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3, which="both")
    figure.suptitle(title, x=0.02, ha="left")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside right center")
    figure.savefig(path)
