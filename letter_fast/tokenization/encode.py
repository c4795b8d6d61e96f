"""tokenize: embeddings → batches → encoder → residual search → codes → unique IDs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from letter_fast import validation
from letter_fast.catalog import Embeddings
from letter_fast.catalog.embeddings import checked_ids
from letter_fast.model import Tokenizer

from .collisions import POLICIES, resolve
from .semantic_ids import SemanticIds


def tokenize(
    model: Tokenizer,
    embeddings: Any,
    unique: str = "optimal",
    existing: SemanticIds | None = None,
    *,
    item_ids: Any = None,
    batch_size: int = 4096,
    on_batch: Callable[[int, int], None] | None = None,
) -> SemanticIds:
    """The ID table of a catalog.

    embeddings: what `Embeddings.open` takes, [N, S].
    unique: how collisions are resolved, see `letter_fast.tokenization.collisions`.
    existing: an earlier table; its items keep their IDs, items it alone knows keep theirs reserved.
    item_ids: [N] ids, for sources that carry none.
    on_batch: called with (rows done, rows in all).
    Raises:
        ValueError: inputs don't fit the model, more items than IDs, or an existing table of another
            shape or policy.
    """
    validation.choice(unique, POLICIES, "unique")
    catalog = Embeddings.open(embeddings)
    catalog.check_width(model.config.input_dim)
    ids = catalog.item_ids if item_ids is None else checked_ids(item_ids, "item_ids")
    if ids is None:
        ids = pa.array(np.arange(catalog.rows))
    if len(ids) != catalog.rows:
        raise ValueError(f"{len(ids)} item ids for {catalog.rows} rows of embeddings")

    device = model.quantizer.codebooks.device
    latents, codes = [], []
    done = 0
    for batch in catalog.batches(batch_size):
        z = model.encode_latents(torch.from_numpy(batch).to(device))
        chosen = model.quantizer.encode(z)
        assert isinstance(chosen, torch.Tensor)
        latents.append(z.cpu())
        codes.append(chosen.cpu().numpy())
        done += len(batch)
        if on_batch:
            on_batch(done, catalog.rows)

    encoded = np.concatenate(codes)
    sizes = model.quantizer.codebook_sizes
    fixed = reserved = None
    if existing is not None:
        fixed, reserved = _keep(encoded, ids, existing, sizes, unique)
    resolution = resolve(
        encoded,
        torch.cat(latents),
        [model.quantizer.codebook(level).detach() for level in range(model.quantizer.levels)],
        unique,
        order=pc.rank(ids, tiebreaker="first").to_numpy().astype(np.int64),
        fixed=fixed,
        reserved=reserved,
    )
    metadata = {
        "policy": unique,
        "model": model.fingerprint(),
        "resolution": resolution.report.to_dict(),
    }
    return SemanticIds(resolution.codes, resolution.sizes, ids, metadata)


def _keep(
    codes: NDArray[np.int64], ids: pa.Array, existing: SemanticIds, sizes: list[int], unique: str
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Writes the existing IDs into `codes`; which rows they fix, and the IDs of absent items."""
    if unique != "optimal":
        raise ValueError(f'existing IDs can be kept with unique="optimal" only, not {unique!r}')
    if existing.sizes != sizes:
        raise ValueError(f"the existing IDs have codebooks of {existing.sizes}, the model {sizes}")
    if ids.type != existing.item_ids.type:
        raise ValueError(
            f"the existing IDs are of items named by {existing.item_ids.type}, these by {ids.type}"
        )
    row = pc.index_in(ids, value_set=existing.item_ids)
    known = row.is_valid().to_numpy(zero_copy_only=False)
    places = row.drop_null().to_numpy().astype(np.int64)
    codes[known] = existing.codes[places]
    return known, np.delete(existing.codes, places, axis=0)
