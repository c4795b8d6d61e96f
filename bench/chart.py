"""The table as bars."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .measure import Comparison, by_threads, quantity

_OURS, _PEER, _LIMIT = "#d1495b", "#9aa5b1", "#30475e"


def chart(comparisons: Sequence[Comparison], facts: dict[str, Any], path: Path) -> bool:
    """Bars of rows a second at the most threads, ours in colour; False without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        len(comparisons), 1, figsize=(9, 3.2 * len(comparisons)), squeeze=False
    )
    for axis, comparison in zip(axes[:, 0], comparisons):
        group = by_threads(comparison)[-1]
        bars = sorted((lane for lane in group if lane.role != "limit"), key=lambda lane: lane.rate)
        colours = [_OURS if lane.role == "ours" else _PEER for lane in bars]
        drawn = axis.barh([lane.name for lane in bars], [lane.rate for lane in bars], color=colours)
        axis.bar_label(drawn, [quantity(lane.rate) for lane in bars], padding=3, fontsize=8)
        limit = min((lane for lane in group if lane.role == "limit"), key=lambda lane: lane.rate)
        axis.axvline(limit.rate, color=_LIMIT, linestyle="--", linewidth=1)
        axis.text(limit.rate, -0.7, f" {limit.name}", color=_LIMIT, fontsize=8, va="top")
        workload = comparison.workload
        levels = f"L = {len(workload.sizes)}, K = {workload.sizes[0]:,}"
        axis.set_title(
            f"{workload.name}: {workload.about} (D = {workload.dim}, {levels})",
            loc="left",
            fontsize=10,
        )
        axis.set_xlim(0, 1.15 * max(bars[-1].rate, limit.rate))
        axis.set_xticks([])
        axis.spines[["top", "right", "bottom"]].set_visible(False)
    where = facts["gpu"]["name"] if "gpu" in facts else facts["cpu"]
    threads = "" if "gpu" in facts else f", threads: {by_threads(comparisons[0])[-1][0].threads}"
    figure.suptitle(f"rows a second, {where}{threads}", x=0.02, ha="left")
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return True
