"""The tree of IDs as a picture: first codes, their second codes, and what carries them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from letter_fast.extras import require
from letter_fast.tokenization import SemanticIds

from .plots import write_png

_WIDTH, _LINE = 11.0, 0.24  # inches
_TEXT = 100  # characters of titles that fit beside the boxes


def plot_tree(
    path: Path, ids: SemanticIds, titles: Sequence[str], first: int = 6, second: int = 4
) -> Path:
    """The `first` fullest codes of level 1, each with its `second` fullest of level 2, into `path`.

    titles: [N], in the order of the table.
    Raises:
        ValueError: matplotlib is not installed, the IDs have one level, or titles are of another
            number.
    """
    require("matplotlib", "the tree")
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    if len(ids.sizes) < 2:
        raise ValueError("a tree needs IDs of two levels or more, these have one")
    if len(titles) != len(ids):
        raise ValueError(f"the tree needs a title for each of {len(ids)} items, got {len(titles)}")
    live = np.flatnonzero(ids.is_live)
    if len(live) == 0:
        raise ValueError("the table holds no live item, so that there is no tree")
    branches = [
        (code, rows, _fullest(ids.codes[rows, 1], second))
        for code, rows in _split(ids.codes[live, 0], live, first)
    ]
    lines = sum(max(len(found), 2) + 0.4 for _, _, found in branches)
    figure = Figure(figsize=(_WIDTH, _LINE * (lines + 2)), dpi=130, layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, 100), ylim=(lines, 0))
    axes.axis("off")
    axes.set_title(f"{len(live):,} items: the fullest first codes, their second codes, and items")
    top = 0.0
    for place, (_, rows, found) in enumerate(branches):
        height, colour = max(len(found), 2), f"C{place % 10}"
        axes.add_patch(Rectangle((0, top), 12, height, color=colour))
        label = f"{ids.tokens([int(rows[0])])[0][0]}\n{len(rows):,} items"
        axes.text(6, top + height / 2, label, ha="center", va="center", color="white", fontsize=9)
        for line, code in enumerate(found):
            inside = rows[ids.codes[rows, 1] == code]
            middle = top + line + 0.5
            axes.add_patch(Rectangle((12.4, top + line + 0.04), 12, 0.92, color=colour, alpha=0.35))
            label = f"{ids.tokens([int(inside[0])])[0][1]}  {len(inside):,}"
            axes.text(18.4, middle, label, ha="center", va="center", fontsize=8)
            text = _joined([titles[row] for row in inside])
            axes.text(25, middle, text, va="center", fontsize=8, parse_math=False)
        top += height + 0.4
    with warnings.catch_warnings():
        # A script that no font here has is drawn as boxes, which the reader sees.
        warnings.filterwarnings("ignore", "Glyph")
        return write_png(figure, path)


def _fullest(codes: NDArray[np.int32], most: int) -> list[int]:
    """The most frequent codes, ties by code."""
    found, counts = np.unique(codes, return_counts=True)
    return [int(code) for code in found[np.argsort(-counts, kind="stable")][:most]]


def _split(
    codes: NDArray[np.int32], rows: NDArray[np.int64], most: int
) -> list[tuple[int, NDArray[np.int64]]]:
    """The fullest codes, each with its rows."""
    return [(code, rows[codes == code]) for code in _fullest(codes, most)]


def _joined(titles: list[str]) -> str:
    """As many titles as fit on a line; a first one that doesn't is cut."""
    text = titles[0] if len(titles[0]) <= _TEXT else titles[0][: _TEXT - 1] + "…"
    for title in titles[1:]:
        if len(text) + len(title) + 3 > _TEXT:
            break
        text = f"{text} · {title}"
    return text
