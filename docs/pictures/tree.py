"""The trees of IDs in README.md and docs/: python docs/pictures/tree.py

tree.png as `letter-fast quickstart` draws it, and tree-narrow.png for telephones.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

import letter_fast as lf
from letter_fast.demo.quickstart import run_quickstart
from letter_fast.evaluation.tree import plot_tree

HERE = Path(__file__).parent
FIRST, SECOND, WIDTH, LINE, TEXT = 5, 3, 3.6, 0.25, 38


def fullest(codes: np.ndarray, most: int) -> list[int]:
    found, counts = np.unique(codes, return_counts=True)
    return found[np.argsort(-counts, kind="stable")][:most].tolist()


def line_of(titles: list[str]) -> str:
    """As many titles as fit, at least one."""
    text = titles[0]
    for title in titles[1:]:
        if len(text) + len(title) + 3 > TEXT:
            break
        text = f"{text} · {title}"
    return text


def narrow(ids: lf.SemanticIds, titles: list[str], path: Path) -> None:
    """A first code is a bar, its second codes stand below it."""
    figure = plt.figure(figsize=(WIDTH, LINE * (FIRST * (SECOND + 1.5))), dpi=200)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 100), ylim=(FIRST * (SECOND + 1.5), 0))
    axes.axis("off")
    top = 0.0
    for place, first in enumerate(fullest(ids.codes[:, 0], FIRST)):
        rows, colour = np.flatnonzero(ids.codes[:, 0] == first), f"C{place}"
        axes.add_patch(Rectangle((0, top), 100, 1, color=colour))
        label = f"<a_{first}>  {len(rows)} items"
        axes.text(3, top + 0.55, label, va="center", color="white", fontsize=9, weight="bold")
        for line, second in enumerate(fullest(ids.codes[rows, 1], SECOND), start=1):
            inside, middle = rows[ids.codes[rows, 1] == second], top + line + 0.55
            axes.add_patch(Rectangle((0, top + line + 0.05), 23, 0.95, color=colour, alpha=0.35))
            label = f"<b_{second}>  {len(inside)}"
            axes.text(11.5, middle, label, ha="center", va="center", fontsize=7.5)
            text = line_of([titles[row] for row in inside])
            axes.text(25, middle, text, va="center", fontsize=7.5)
        top += SECOND + 1.5
    figure.savefig(path)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        made = run_quickstart(Path(folder) / "shop")
        plot_tree(HERE / "tree.png", made.ids, made.shop.titles, first=5)
        narrow(made.ids, made.shop.titles, HERE / "tree-narrow.png")
