"""Whether embeddings, collaborative embeddings and model fit each other."""

from __future__ import annotations

from typing import Any

from letter_fast.catalog import Embeddings, align_cf
from letter_fast.model import Letter


def matching_targets(
    model: Letter, catalog: Embeddings, cf: Any, missing: str = "error"
) -> Embeddings | None:
    """The CF vectors in the catalog's order, or None where the model has no use for them.

    missing: as `align_cf`.
    Raises:
        ValueError: something does not fit.
    """
    config = model.config
    if catalog.width != config.input_dim:
        raise ValueError(
            f"the embeddings have width {catalog.width}, the model expects {config.input_dim}"
        )
    needed = max(config.codebook_size)
    if catalog.rows < needed:
        raise ValueError(
            f"the catalog has {catalog.rows} items, fewer than the {needed} codewords of a level"
        )
    if config.cf_weight == 0:
        return None
    if cf is None:
        raise ValueError(
            f"cf_weight is {config.cf_weight} but no collaborative embeddings were given: pass cf, "
            "or set cf_weight=0 (RQ-VAE)"
        )
    targets = align_cf(catalog, Embeddings.open(cf), missing)
    width = config.cf_dim or config.latent_dim
    if targets.width != width:
        raise ValueError(
            f"the collaborative embeddings have width {targets.width}, the model expects {width}: "
            f"set cf_dim={targets.width}"
        )
    return targets


def count_without_cf(targets: Embeddings) -> int:
    """Items whose CF vector is zeros, which stand for no CF. Reads the CF vectors once.

    Raises:
        ValueError: no item has one.
    """
    held = sum(int(batch.any(axis=1).sum()) for batch in targets.batches())
    if held == 0:
        raise ValueError(
            f"{targets.name}: the collaborative embeddings of all {targets.rows} items are zeros"
        )
    return targets.rows - held
