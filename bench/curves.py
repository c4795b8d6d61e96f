"""Curves over epochs, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
    from matplotlib.ticker import ScalarFormatter

    figure = Figure(figsize=(4 + 4 * len(panels), 4.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    found: Any = figure.subplots(1, len(panels), squeeze=False)
    for axes, (name, lines) in zip(found[0], panels.items()):
        for line, colour in zip(lines, _COLOURS):
            mean = [sum(values) / len(values) for values in zip(*line.runs)]
            axes.plot(line.epochs, mean, line.style, color=colour, label=line.label)
            if len(line.runs) > 1:
                low, high = (list(map(pick, zip(*line.runs))) for pick in (min, max))
                axes.fill_between(line.epochs, low, high, color=colour, alpha=0.2, linewidth=0)
        for level, colour in zip(levels, ("#30475e", "#9aa5b1")):
            axes.axhline(level.value, color=colour, linestyle=level.style, label=level.label)
        axes.set(xlabel="epoch", ylabel=name, yscale="log")
        for axis in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            axis(ScalarFormatter())
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3, which="both")
    figure.suptitle(title, x=0.02, ha="left")
    handles, labels = found[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside right center")
    figure.savefig(path)
