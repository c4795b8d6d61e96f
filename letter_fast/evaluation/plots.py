"""Three pictures of a run: what the loss is made of, perplexity, and how evenly codes are used."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from letter_fast.atomic import write_bytes
from letter_fast.extras import require
from letter_fast.model import LetterConfig

from .measures import level_spread

_TERMS = {
    "recon": "reconstruction",
    "quantization": "quantization",
    "diversity": "diversity",
    "cf": "CF",
}
_GREY = "0.45"


def plot_run(folder: Path, records: list[dict[str, Any]], config: LetterConfig) -> list[Path]:
    """losses.png and, once the catalog has been evaluated, perplexity.png, into `folder`.

    records: of a training log; config: of the model, whose weights make the terms contributions.
    Raises:
        ValueError: matplotlib is not installed, the log is empty, or a record lacks a number.
    """
    if not records:
        raise ValueError("the log holds no finished epoch yet: nothing to plot")
    made = [plot_losses(folder / "losses.png", records, config)]
    if any("catalog_perplexity" in record for record in records):
        made.append(plot_perplexity(folder / "perplexity.png", records, config.codebook_size))
    return made


def contributions(records: list[dict[str, Any]], config: LetterConfig) -> dict[str, list[float]]:
    """Each term times its weight, by epoch; terms of weight 0 are left out."""
    found = {}
    for name, label in _TERMS.items():
        alone = dict.fromkeys(_TERMS, 0.0) | {name: 1.0}
        weight = config.total(**alone)
        if weight > 0:
            found[label] = [weight * _number(record, name) for record in records]
    return found


def plot_losses(path: Path, records: list[dict[str, Any]], config: LetterConfig) -> Path:
    """The terms, stacked: their upper edge is the loss."""
    figure, axes = _figure()
    # An epoch is a step of width 1, so that a single one shows too.
    edges = [_number(record, "epoch") - 0.5 for record in records]
    edges.append(edges[-1] + 1.0)
    stacked = {name: [*y, y[-1]] for name, y in contributions(records, config).items()}
    areas = axes.stackplot(edges, *stacked.values(), labels=stacked, alpha=0.8, step="post")
    total = [_number(record, "loss") for record in records]
    axes.step(edges, [*total, total[-1]], where="post", color="black", linewidth=1, label="loss")
    axes.set(
        xlabel="epoch",
        ylabel="weight × term",
        title="What the loss is made of",
        xlim=(edges[0], edges[-1]),
    )
    _from_zero(axes)
    # From the top down, as they are stacked.
    return _save(figure, path, [axes.lines[0], *reversed(areas)])


def plot_perplexity(path: Path, records: list[dict[str, Any]], sizes: tuple[int, ...]) -> Path:
    """Of the whole catalog's codes, wherever it was evaluated: what `evaluate` reports."""
    figure, axes = _figure()
    seen = [record for record in records if "catalog_perplexity" in record]
    epochs = [_number(record, "epoch") for record in seen]
    for level in range(len(sizes)):
        values = [_number(record, "catalog_perplexity", level) for record in seen]
        axes.plot(epochs, values, marker="o", markersize=3, label=f"level {level + 1}")
    for size in sorted(set(sizes)):
        axes.axhline(size, color=_GREY, linestyle=":", label=f"{size} codewords")
    axes.set(
        xlabel="epoch",
        ylabel="perplexity",
        title="Perplexity of the codes of the whole catalog",
        xlim=(0, epochs[-1] * 1.03),
    )
    _from_zero(axes)
    return _save(figure, path)


def plot_usage(folder: Path, codes: NDArray[np.int32], sizes: list[int]) -> Path:
    """usage.png: items of each codeword, most used first, one line a level."""
    figure, axes = _figure()
    for level, size in enumerate(sizes):
        counts = np.sort(np.bincount(codes[:, level], minlength=size))[::-1]
        spread = 2.0 ** level_spread(codes[:, level], size)[1]
        axes.plot(
            np.arange(1, size + 1),
            counts,
            label=f"level {level + 1}\n(perplexity {spread:.1f})",
            drawstyle="steps-mid",
        )
    for size in sorted(set(sizes)):
        axes.hlines(len(codes) / size, 1, size, color=_GREY, linestyle=":", label="even use")
    axes.set(
        xlabel="codeword, by rank",
        ylabel="items",
        title=f"How {len(codes):,} items spread over the codewords",
    )
    _from_zero(axes)
    return _save(figure, folder / "usage.png")


def _from_zero(axes: Any) -> None:
    """The vertical axis begins at 0, unless something lies below, as a foreign log may have it."""
    if axes.dataLim.y0 >= 0 and axes.get_ylim()[1] > 0:
        axes.set_ylim(bottom=0)


def _number(record: dict[str, Any], name: str, level: int | None = None) -> float:
    """A number of a log's record; the file may come from another program."""
    value: Any = record.get(name)
    if level is not None:
        value = value[level] if isinstance(value, list) and level < len(value) else None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not abs(value) <= sys.float_info.max:  # an integer may be far beyond
        place = name if level is None else f"{name}, level {level + 1}"
        raise ValueError(f"the log's record of epoch {record.get('epoch')} has no number {place}")
    return float(value)


def _figure() -> tuple[Any, Any]:
    require("matplotlib", "a plot")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: Any, path: Path, handles: list[Any] | None = None) -> Path:
    # Beside the axes, where no curve can run through it.
    shown = {} if handles is None else {"handles": handles}
    figure.legend(frameon=False, loc="outside right center", **shown)
    return write_png(figure, path)


def write_png(figure: Any, path: Path) -> Path:
    """The whole picture or none."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_bytes(path, buffer.getvalue())
    return path
