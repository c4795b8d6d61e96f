"""letter-fast train --model residual-kmeans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .columns import named_items
from .interrupts import resumable
from .terminal import print_json, progress

if TYPE_CHECKING:
    import torch

    from letter_fast.catalog import Embeddings
    from letter_fast.model import ResidualKMeansConfig
    from letter_fast.training import FitSettings


def fit(
    catalog: Embeddings,
    config: ResidualKMeansConfig,
    settings: FitSettings,
    out: Path,
    device: torch.device,
    fresh: bool,
    json: bool,
    hint: str,
) -> None:
    """Fits the model into the folder `out`, and says how well its codes serve the catalog.

    hint: the last line, the next command.
    """
    from letter_fast.evaluation import evaluate
    from letter_fast.model import ResidualKMeans
    from letter_fast.training import fit_residual_kmeans

    model = ResidualKMeans(config).to(device)
    levels = len(config.codebook_size)
    with progress("levels") as bar:
        task = bar.add_task("k-means", total=levels, note="level 1")

        def show(done: int) -> None:
            note = f"level {done + 1}" if done < levels else ""
            bar.update(task, completed=done, note=note)

        with resumable("the same command goes on from the last finished level"):
            fit_residual_kmeans(model, catalog, out, settings, resume=not fresh, on_level=show)
    result = evaluate(model, catalog)
    if json:
        summary = {"model": str(out), "item_ids": catalog.named_by, "levels": levels}
        print_json({**summary, **result.to_dict()})
        return
    print(f"fitted {levels} levels; the model is in {out}")
    for level, size in enumerate(config.codebook_size):
        print(
            f"level {level + 1}: {result.usage[level]:.1%} of {size} codewords in use, perplexity "
            f"{result.perplexity[level]:.1f}; {result.latent_error[level]:.1%} of the embeddings' "
            "squared length is left over"
        )
    print(f"reconstruction {result.reconstruction:.4g}, collisions {result.collision_rate:.2%}")
    print(named_items(catalog))
    print(hint)
