"""The report for people and machines: one table, a sentence a workload, JSON with every turn."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from . import machine
from .chart import chart
from .measure import Comparison, Lane, by_threads, quantity, ratio, share

COLUMNS = ("workload", "peer", "rows", "threads", "rows/s", "ours/peer", "of limit", "inexact")

# A second's float operations and bytes on an H100, as the anchors have them.
_H100_RATES = {"fp32": 67e12, "TF32": 400e12, "16-bit": 800e12}
_H100_BYTES = 3.0e12


class Line(NamedTuple):
    """A lane beside ours at the same number of threads."""

    lane: Lane
    ours_over_peer: float
    share_of_limit: float


class Verdict(NamedTuple):
    """The figures that sum up a workload at one number of threads."""

    ours: Lane
    best_peer: Lane | None
    over_best_peer: float | None
    share_of_limit: float
    scaling: float | None  # over the fewest threads measured; None for these themselves
    time_of_half_input: dict[str, float]  # fp16, bf16 -> its time over fp32's


def lines(comparison: Comparison) -> list[Line]:
    """All lanes, grouped by threads, the fastest first."""
    found = []
    for group in by_threads(comparison):
        ours, limits = _ours(group), [lane for lane in group if lane.role == "limit"]
        for lane in sorted(group, key=lambda lane: -lane.rate):
            found.append(Line(lane, ratio(ours, lane), share(lane, limits)))
    return found


def verdicts(comparison: Comparison) -> list[Verdict]:
    groups = by_threads(comparison)
    alone = _ours(groups[0])
    found = []
    for group in groups:
        ours = _ours(group)
        peers = [lane for lane in group if lane.role == "peer"]
        best = max(peers, key=lambda lane: lane.rate, default=None)
        half = [lane for lane in group if lane.role == "ours" and lane is not ours]
        found.append(
            Verdict(
                ours,
                best,
                ratio(ours, best) if best else None,
                share(ours, [lane for lane in group if lane.role == "limit"]),
                ratio(ours, alone) if ours is not alone else None,
                {lane.name.split()[-1]: ratio(ours, lane) for lane in half},
            )
        )
    return found


def _ours(group: Sequence[Lane]) -> Lane:
    return next(lane for lane in group if lane.role == "ours")


def cells(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    """The table's rows, one string for each of COLUMNS."""
    for lane, over, part in lines(comparison):
        named = f"{lane.name} ({lane.setting})" if lane.setting else lane.name
        inexact = "" if lane.differing is None else f"{lane.differing:,} of {lane.checked:,}"
        yield (
            comparison.workload.name,
            named,
            "" if lane.role == "limit" else f"{lane.rows:,}",
            str(lane.threads),
            quantity(lane.rate),
            "" if lane.role == "limit" else f"{over:.2f}×",
            "" if lane.role == "limit" else f"{part:.0%}",
            inexact,
        )


def sentences(comparison: Comparison, on_gpu: bool) -> Iterator[str]:
    """The verdicts in words, then who could not run."""
    name, fewest = comparison.workload.name, by_threads(comparison)[0][0].threads
    for verdict in verdicts(comparison):
        ours = verdict.ours
        said = [f"{quantity(ours.rate)} rows/s, {verdict.share_of_limit:.0%} of the limit"]
        if verdict.best_peer is not None:
            said.append(f"{verdict.over_best_peer:.2f}× the best peer, {verdict.best_peer.name}")
        for dtype, time in verdict.time_of_half_input.items():
            said.append(f"{dtype} input {time:.2f}× the time")
        if verdict.scaling is not None:
            said.append(f"{verdict.scaling:.2f}× the rate at threads {fewest}")
        if on_gpu:
            said.append(_floors(comparison, 1e9 / ours.rate))
            yield f"{name}: " + "; ".join(said)
        else:
            yield f"{name}, threads {ours.threads}: " + "; ".join(said)
    for peer, reason in comparison.left_out.items():
        yield f"{name}: without {peer} ({reason})"


def _floors(comparison: Comparison, milliseconds: float) -> str:
    workload = comparison.workload
    floors = {kind: workload.flop / rate for kind, rate in _H100_RATES.items()}
    floors["memory"] = workload.bytes / _H100_BYTES
    listed = ", ".join(f"{kind} {seconds * 1e9:.2f}" for kind, seconds in floors.items())
    return f"1 M rows in {milliseconds:.2f} ms (an H100's floors: {listed} ms)"


def show(comparisons: Sequence[Comparison], facts: dict[str, Any]) -> str:
    """Prints the one table (plainly without rich) and what it says. -> the same text"""
    said = [text for each in comparisons for text in sentences(each, "gpu" in facts)]
    said.append(machine.sentence(facts))
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        rows = [COLUMNS, *(row for each in comparisons for row in cells(each))]
        text = "\n".join(["\t".join(row) for row in rows] + said) + "\n"
        print(text, end="")
        return text
    table = Table(title="Residual search: codes of all levels")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in COLUMNS[:2] else "right")
    before = None
    for workload, *row in (row for each in comparisons for row in cells(each)):
        section = (workload, row[2])
        if section != before:
            table.add_section()
        ours = row[0].startswith("letter-fast")
        table.add_row(workload if section != before else "", *row, style="bold" if ours else None)
        before = section
    console = Console(record=True, width=None if sys.stdout.isatty() else 120)
    console.print(table)
    for text in said:
        console.print(text, highlight=False, soft_wrap=True)
    return console.export_text()


def record(comparisons: Sequence[Comparison], facts: dict[str, Any]) -> dict[str, Any]:
    """Everything, for machines: the facts, each lane with its turns, the verdicts."""
    return {
        "machine": facts,
        "workloads": [_workload_record(comparison) for comparison in comparisons],
    }


def _workload_record(comparison: Comparison) -> dict[str, Any]:
    workload = comparison.workload
    return {
        "name": workload.name,
        "about": workload.about,
        "dim": workload.dim,
        "sizes": list(workload.sizes),
        "rows": comparison.rows,
        "lanes": [
            {
                "peer": line.lane.name,
                "role": line.lane.role,
                "setting": line.lane.setting,
                "threads": line.lane.threads,
                "rows": line.lane.rows,
                "rows_per_second": line.lane.rate,
                "ours_over_peer": line.ours_over_peer,
                "share_of_limit": line.share_of_limit,
                "inexact_rows": line.lane.differing,
                "checked_rows": line.lane.checked,
                "seconds": line.lane.seconds,
            }
            for line in lines(comparison)
        ],
        "verdicts": [
            {
                "threads": verdict.ours.threads,
                "rows_per_second": verdict.ours.rate,
                "best_peer": verdict.best_peer.name if verdict.best_peer else None,
                "ours_over_best_peer": verdict.over_best_peer,
                "share_of_limit": verdict.share_of_limit,
                "over_fewest_threads": verdict.scaling,
                "time_of_half_input": verdict.time_of_half_input,
            }
            for verdict in verdicts(comparison)
        ],
        "left_out": comparison.left_out,
    }


def write(
    comparisons: Sequence[Comparison], facts: dict[str, Any], folder: Path, name: str
) -> None:
    """Prints everything, and leaves it in the folder as `name`.json, .txt and .png."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(record(comparisons, facts), indent=1) + "\n")
    (folder / f"{name}.txt").write_text(show(comparisons, facts))
    drawn = chart(comparisons, facts, folder / f"{name}.png")
    print(f"{folder / name}.json, .txt" + (", .png" if drawn else "; no chart without matplotlib"))
