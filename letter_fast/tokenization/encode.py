"""tokenize: embeddings → batches → encoder → residual search → codes → unique IDs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from letter_fast import validation
from letter_fast.catalog import Embeddings
from letter_fast.catalog.embeddings import checked_ids
from letter_fast.model import Tokenizer

from .existing import keep
from .policies import POLICIES, resolve
from .semantic_ids import SemanticIds


def tokenize(
    model: Tokenizer,
    embeddings: Any,
    unique: str = "optimal",
    existing: SemanticIds | None = None,
    *,
    removed: str = "reserve",
    item_ids: Any = None,
    batch_size: int = 4096,
    on_batch: Callable[[int, int], None] | None = None,
) -> SemanticIds:
    """The ID table of a catalog.

    embeddings: what `Embeddings.open` takes, [N, S]; with `existing`, the whole catalog or only
        what is new.
    unique: how collisions are resolved, see `letter_fast.tokenization.policies`.
    existing: an earlier table. Its items keep their IDs and are not encoded again.
    removed: what becomes of its items that `embeddings` lacks: "reserve" keeps them in the table,
        after the others, so that no later item gets their IDs; "free" drops them.
    item_ids: [N] ids, for sources that carry none.
    on_batch: called with (rows done, rows in all).
    Raises:
        ValueError: inputs don't fit the model, more items than IDs, or an existing table of other
            codebooks.
    """
    validation.choice(unique, POLICIES, "unique")
    catalog = Embeddings.open(embeddings)
    catalog.check_width(model.config.input_dim)
    ids = catalog.item_ids if item_ids is None else checked_ids(item_ids, "item_ids")
    if ids is None:
        ids = pa.array(np.arange(catalog.rows))
    if len(ids) != catalog.rows:
        raise ValueError(f"{len(ids)} item ids for {catalog.rows} rows of embeddings")
    sizes = model.quantizer.codebook_sizes
    kept = keep(ids, existing, sizes, unique, removed)
    fresh = ~kept.known

    device = model.quantizer.codebooks.device
    latents = [torch.zeros((0, model.quantizer.dim))]
    codes = [np.zeros((0, len(sizes)), dtype=np.int64)]
    done = 0
    for batch in catalog.batches(batch_size):
        new = batch[fresh[done : done + len(batch)]]
        if len(new):
            z = model.encode_latents(torch.from_numpy(new).to(device))
            chosen = model.quantizer.encode(z)
            assert isinstance(chosen, torch.Tensor)
            latents.append(z.cpu())
            codes.append(chosen.cpu().numpy())
        done += len(batch)
        if on_batch:
            on_batch(done, catalog.rows)

    resolution = resolve(
        np.concatenate(codes),
        torch.cat(latents),
        [model.quantizer.codebook(level).detach() for level in range(model.quantizer.levels)],
        unique,
        order=pc.rank(ids.filter(pa.array(fresh)), tiebreaker="first").to_numpy().astype(np.int64),
        held=kept.held,
    )
    table = np.empty((catalog.rows, resolution.codes.shape[1]), dtype=np.int64)
    table[kept.known], table[fresh] = kept.codes, resolution.codes
    sizes = resolution.sizes
    metadata = {
        "policy": unique,
        "model": model.fingerprint(),
        "resolution": resolution.report.to_dict(),
    }
    if existing is not None:
        # A vocabulary never shrinks, and without new items the table stays what it was.
        sizes = [max(pair) for pair in zip(sizes, existing.sizes, strict=True)]
        metadata = metadata if fresh.any() else existing.metadata
    return SemanticIds(
        np.concatenate([table, kept.absent_codes]),
        sizes,
        pa.concat_arrays([ids, kept.absent_ids]),
        metadata,
    )
