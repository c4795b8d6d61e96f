"""The picture of residual quantization in docs/concepts.md: python docs/pictures/residual.py"""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib import pyplot as plt

import letter_fast as lf

torch.manual_seed(4)
centres = torch.tensor(
    [[-2.2, 1.0], [-0.4, 2.1], [1.9, 1.4], [2.1, -1.3], [-0.2, -1.9], [-2.3, -1.2]]
)
offsets = torch.tensor([[0.55, 0.1], [-0.4, 0.4], [-0.05, -0.6]])
x = (centres[:, None, None] + offsets[None, :, None] + 0.13 * torch.randn(6, 3, 12, 2)).reshape(
    -1, 2
)
model = lf.ResidualKMeans(lf.ResidualKMeansConfig(input_dim=2, codebook_size=(6, 3))).fit(x)
codes = model.quantizer.encode(x)
item = 75


def draw(file: str, rows: int, size: tuple[float, float]) -> None:
    """Three panels in so many rows."""
    figure, panels = plt.subplots(rows, 3 // rows, figsize=size, dpi=130, layout="constrained")
    residual, chosen = x.clone(), []
    for level, axes in enumerate(panels[:2]):
        words = model.quantizer.codebook(level).detach()
        axes.scatter(*residual.T, s=12, c=[f"C{code}" for code in codes[:, level]], alpha=0.5, lw=0)
        axes.scatter(
            *words.T, marker="X", s=90, c=[f"C{k}" for k in range(len(words))], edgecolor="k"
        )
        word, name = words[codes[item, level]], "ab"[level]
        chosen.append(f"<{name}_{codes[item, level]}>")
        axes.annotate("", residual[item], word, arrowprops={"arrowstyle": "->", "lw": 1.8})
        axes.scatter(*residual[item], s=55, c="k", zorder=5)
        for k, place in enumerate(words):
            axes.annotate(f"<{name}_{k}>", place, (6, 6), textcoords="offset points", fontsize=9)
        residual = residual - words[codes[:, level]]
    panels[0].set_title("level 1: the nearest of 6 codewords")
    panels[1].set_title("level 2: the same of the residuals")
    axes = panels[2]
    one, two = (model.quantizer.codebook(level).detach()[codes[item, level]] for level in (0, 1))
    axes.scatter(*x.T, s=12, c="lightgrey", lw=0)
    for begin, end, colour, label in [
        (torch.zeros(2), one, f"C{codes[item, 0]}", chosen[0]),
        (one, one + two, f"C{codes[item, 1]}", chosen[1]),
    ]:
        axes.annotate("", end, begin, arrowprops={"arrowstyle": "->", "lw": 2.5, "color": colour})
        axes.annotate(label, (begin + end) / 2, (8, -12), textcoords="offset points", fontsize=10)
    axes.scatter(0, 0, marker="+", c="k", s=60)
    axes.scatter(*x[item], s=55, c="k", zorder=5)
    axes.set_title(f"ID {' '.join(chosen)}: the sum of both")
    for axes in panels:
        axes.set_aspect("equal", adjustable="datalim")
        axes.set(xticks=[], yticks=[])
    figure.savefig(Path(__file__).with_name(file))


draw("residual.png", 1, (12, 4.1))
draw("residual-narrow.png", 3, (4, 11.4))  # for telephones
