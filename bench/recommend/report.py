"""The table and the chart of all runs of one comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from .ids import KINDS
from .metrics import NAMES, compare
from .runs import test_ranks

Results = Mapping[str, Sequence[dict[str, Any]]]  # kind -> one result a seed


def table(name: str, results: Results, reference: str | None) -> str:
    """Markdown: a row a kind, mean ± standard deviation over seeds.

    reference: the kind whose NDCG@10 the last column sets others against, paired over test cases.
    """
    heads = [name, "seeds", *(f"valid {m}" for m in ("NDCG@10",)), *map(_pretty, NAMES)]
    if reference:
        heads.append(f"NDCG@10 less {reference}'s (95 %)")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for kind, runs in results.items():
        cells = [KINDS[kind].about, str(len(runs)), spread([r["valid"]["ndcg@10"] for r in runs])]
        cells += [spread([run["test"][metric] for run in runs]) for metric in NAMES]
        if reference:
            cells.append("" if kind == reference else _against(runs, results[reference]))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """.1229 ± .0010; of one value that alone."""
    text = _short(mean(values))
    return text if len(values) == 1 else f"{text} ± {_short(stdev(values))}"


def _short(value: float) -> str:
    return f"{value:.4f}".replace("0.", ".", 1)


def _pretty(metric: str) -> str:
    name, cut = metric.split("@")
    return f"{'NDCG' if name == 'ndcg' else 'Recall'}@{cut}"


def _against(runs: Sequence[dict[str, Any]], reference: Sequence[dict[str, Any]]) -> str:
    ours, other = ([test_ranks(run) for run in group] for group in (runs, reference))
    if len(ours[0]) != len(other[0]):
        return "other test cases"
    found = compare(ours, other, "ndcg@10")
    return f"{found.mean:+.4f} ({found.low:+.4f} … {found.high:+.4f})"


def chart(datasets: Mapping[str, Results], path: Path) -> None:
    """Recall@10 and NDCG@10 on test: bars of means, lines of standard deviations, dots of seeds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = max(len(results) for results in datasets.values())
    size = (11, len(datasets) * (0.9 + 0.32 * rows))
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    grid: Any = figure.subplots(len(datasets), 2, squeeze=False)
    for line, (name, results) in zip(grid, datasets.items()):
        for axes, metric in zip(line, ("recall@10", "ndcg@10")):
            labels = [KINDS[kind].about for kind in results]
            values = [[run["test"][metric] for run in runs] for runs in results.values()]
            ours = [kind.startswith("letter") for kind in results]
            axes.barh(
                labels,
                [mean(found) for found in values],
                xerr=[stdev(found) if len(found) > 1 else 0.0 for found in values],
                color=["#d1495b" if own else "#9aa5b1" for own in ours],
                error_kw={"elinewidth": 1, "capsize": 3, "ecolor": "#30475e"},
            )
            for place, found in enumerate(values):
                axes.plot(found, [place] * len(found), ".", color="#30475e", markersize=4)
            axes.invert_yaxis()
            axes.spines[["top", "right"]].set_visible(False)
            seeds = sorted({len(found) for found in values})
            axes.set_title(
                f"{name}: {_pretty(metric)}, test, {'/'.join(map(str, seeds))} seeds",
                loc="left",
                fontsize=10,
            )
            axes.tick_params(labelsize=8)
        line[1].set_yticklabels([])
    figure.savefig(path)
