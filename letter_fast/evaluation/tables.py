"""Evaluations as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from .measures import OF_TABLES, Evaluation


def comparison_table(runs: Mapping[str, Evaluation]) -> Table:
    """One column a run, one row a measure; the arrow says which direction is better."""
    table = Table(title="Tokenizers compared" if len(runs) > 1 else "Evaluation")
    table.add_column("measure")
    for name in runs:
        table.add_column(name, justify="right")

    def add(label: str, values: list[str]) -> None:
        table.add_row(label, *values)

    every = list(runs.values())
    levels = max(len(run.usage) for run in every)
    add("items", [f"{run.items:,}" for run in every])
    add("reconstruction error ↓", [f"{run.reconstruction:.3g}" for run in every])
    for level in range(max(len(run.latent_error) for run in every)):
        add(
            f"latent error, level {level + 1} ↓",
            [_at(run.latent_error, level, "{:.1%}") for run in every],
        )
    for level in range(levels):
        add(
            f"codes used, level {level + 1} ↑",
            [_at(run.usage, level, "{:.1%}") for run in every],
        )
    for level in range(levels):
        add(
            f"perplexity (bits), level {level + 1} ↑",
            [
                f"{_at(run.perplexity, level, '{:.1f}')} ({_at(run.entropy, level, '{:.2f}')})"
                for run in every
            ],
        )
    add("collisions, 1 − unique/N ↓", [f"{run.collision_rate:.2%}" for run in every])
    add("items in a collision ↓", [f"{run.colliding:.2%}" for run in every])
    add("largest group ↓", [str(run.largest_group) for run in every])
    add("CF recall@10 ↑", [_optional(run, "cf_recall", "{:.1%}") for run in every])
    add(
        "shared with CF neighbours ↑",
        [_optional(run, "neighbour_overlap", "{:.1%}") for run in every],
    )
    add("shared by chance", [_optional(run, "random_overlap", "{:.1%}") for run in every])
    if any(run.missing.get("changed") != OF_TABLES for run in every):
        add("embeddings changed since", [_optional(run, "changed", "{:,}") for run in every])
    return table


def _at(values: list[float], level: int, form: str) -> str:
    return form.format(values[level]) if level < len(values) else "–"


def _optional(run: Evaluation, measure: str, form: str) -> str:
    value = getattr(run, measure)
    return f"– ({run.missing[measure]})" if value is None else form.format(value)
