"""Whether embeddings, collaborative embeddings and model fit each other."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from letter_fast.catalog import Embeddings, align_cf
from letter_fast.catalog.alignment import CfMissing
from letter_fast.model import Letter
from letter_fast.model.capacity import check_enough, check_unique

# Rows that are looked at before a run; all equal, they hardly are a catalog's embeddings.
_LOOKED_AT = 1000


def check_catalog(
    catalog: Embeddings, codebook_size: Sequence[int], allow_collisions: bool
) -> None:
    """Checks of a catalog before any training.

    Warns:
        1,000 rows spread over it are all equal.
    Raises:
        ValueError: it has more items than there are IDs, unless that is allowed.
    """
    if not allow_collisions:
        check_unique(catalog, codebook_size)
    spread = np.unique(np.linspace(0, catalog.rows - 1, _LOOKED_AT).astype(np.int64))
    rows = catalog.take(spread)
    if len(rows) > 1 and (rows == rows[0]).all():
        what = "zeros" if not rows[0].any() else "equal"
        warnings.warn(
            f"{catalog.name}: {len(rows):,} of {catalog.rows:,} rows were looked at, and all are "
            f"{what}: there is nothing to learn from them; is this the right column?",
            stacklevel=3,
        )


def matching_targets(
    model: Letter, catalog: Embeddings, cf: Any, missing: CfMissing = "error", by_row: bool = False
) -> Embeddings | None:
    """The CF vectors in the catalog's order, or None where the model has no use for them.

    missing, by_row: as `align_cf`.
    Raises:
        ValueError: something does not fit.
    """
    config = model.config
    if catalog.width != config.input_dim:
        raise ValueError(
            f"the embeddings have width {catalog.width}, the model expects {config.input_dim}"
        )
    check_enough(catalog, config.codebook_size)
    if config.cf_weight == 0:
        return None
    if cf is None:
        raise ValueError(
            f"cf_weight is {config.cf_weight} but no collaborative embeddings were given: pass cf, "
            "or set cf_weight=0 (RQ-VAE)"
        )
    targets = align_cf(catalog, Embeddings.open(cf), missing, by_row)
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
