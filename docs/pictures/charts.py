"""The charts in docs/performance, from bench/results: python docs/pictures/charts.py

Narrow, so that a telephone shows them readable.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib import pyplot as plt

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "bench" / "results"
OURS, PEER, LIMIT = "#d1495b", "#9aa5b1", "#30475e"
Bars = Sequence[tuple[str, float]]


def chart(name: str, panels: dict[str, Bars], line: dict[str, float] | None = None) -> None:
    """Panels of bars, one below the other; `line`: of a panel, where a dashed line stands."""
    sizes = [len(bars) for bars in panels.values()]
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(4.4, 0.27 * sum(sizes) + 0.62 * len(panels)), dpi=180,
        gridspec_kw={"height_ratios": sizes}, squeeze=False, layout="constrained",
    )  # fmt: skip
    for axis, (title, bars) in zip(axes[:, 0], panels.items()):
        names, values = zip(*reversed(bars))
        colours = [OURS if label.startswith("letter-fast") else PEER for label in names]
        drawn = axis.barh(names, values, color=colours)
        axis.bar_label(drawn, [f"{value:.3g}" for value in values], padding=3, fontsize=7)
        if line is not None:
            axis.axvline(line[title], color=LIMIT, linestyle="--", linewidth=1)
        axis.set_title(title, loc="left", fontsize=8)
        axis.set_xlim(0, 1.2 * max(values))
        axis.set_xticks([])
        axis.tick_params(axis="y", labelsize=7)
        axis.spines[["top", "right", "bottom"]].set_visible(False)
    figure.savefig(HERE / f"{name}.png")


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def search() -> None:
    """Rows a second at two threads, the fastest first; dashed: float32's matrix product alone."""
    panels, line = {}, {}
    for workload in read("amd-epyc")["workloads"]:
        title = workload["name"].split(",")[0]
        lanes = [lane for lane in workload["lanes"] if lane["threads"] == 2]
        scale = 1e6 if workload["rows"] > 1e5 else 1e3
        rates = {lane["peer"]: lane["rows_per_second"] / scale for lane in lanes}
        title = f"{title}: {'million' if scale == 1e6 else 'thousand'} rows a second"
        line[title] = min(rates.pop(lane["peer"]) for lane in lanes if lane["role"] == "limit")
        panels[title] = sorted(rates.items(), key=lambda bar: -bar[1])
    chart("search", panels, line)


def kmeans() -> None:
    """Seconds of a fit of ten iterations, two threads."""
    panels = {
        f"{fit['rows']:,} × {fit['width']}, K = {fit['clusters']:,}: seconds": sorted(
            ((name, median(seconds)) for name, seconds in fit["seconds"].items()),
            key=lambda bar: bar[1],
        )
        for fit in read("amd-epyc-kmeans")["fits"]
        if fit["threads"] == 2
    }
    chart("kmeans", panels)


if __name__ == "__main__":
    search()
    kmeans()
