"""Three pictures of a run: losses, perplexity, and how evenly the codes are used."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from letter_fast.atomic import write_bytes
from letter_fast.extras import require

_TERMS = {
    "loss": "total",
    "recon": "reconstruction",
    "quantization": "quantization",
    "cf": "CF",
    "diversity": "diversity",
}


def plot_run(folder: Path, records: list[dict[str, Any]]) -> list[Path]:
    """losses.png and perplexity.png of a training log, into `folder`.

    Raises:
        ValueError: matplotlib is not installed, or the log is empty.
    """
    if not records:
        raise ValueError("the log holds no finished epoch yet: nothing to plot")
    epochs = [record["epoch"] for record in records]

    figure, axes = _figure()
    for name in _TERMS:
        values = [record[name] for record in records]
        if any(values):
            axes.plot(epochs, values, label=_TERMS[name])
    axes.set(xlabel="epoch", yscale="log", title="The loss and its terms, unweighted")
    losses = _save(figure, folder / "losses.png")

    figure, axes = _figure()
    for level in range(len(records[0]["perplexity"])):
        values = [record["perplexity"][level] for record in records]
        axes.plot(epochs, values, label=f"level {level + 1}")
    axes.set(xlabel="epoch", ylabel="perplexity (codewords)", title="Codes in use, by epoch")
    axes.set_ylim(bottom=0)
    return [losses, _save(figure, folder / "perplexity.png")]


def plot_usage(folder: Path, codes: NDArray[np.int64], sizes: list[int]) -> Path:
    """usage.png: items of each codeword, most used first, one line a level."""
    figure, axes = _figure()
    for level, size in enumerate(sizes):
        counts = np.sort(np.bincount(codes[:, level], minlength=size))[::-1]
        axes.plot(np.arange(1, size + 1), counts, label=f"level {level + 1}", drawstyle="steps-mid")
    axes.set(
        xlabel="codeword, by rank",
        ylabel="items",
        title=f"How {len(codes):,} items spread over the codewords",
    )
    axes.set_ylim(bottom=0)
    return _save(figure, folder / "usage.png")


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


def _save(figure: Any, path: Path) -> Path:
    # Beside the axes, where no curve can run through it.
    figure.legend(frameon=False, loc="outside right center")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_bytes(path, buffer.getvalue())
    return path
