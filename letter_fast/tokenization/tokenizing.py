"""tokenize: a catalog's codes, then an ID of its own for every item."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from letter_fast import validation
from letter_fast.catalog import Embeddings
from letter_fast.catalog.embeddings import checked_ids
from letter_fast.model import Tokenizer

from .encode import LatentsOnDemand, encode_rows
from .existing import Kept, keep
from .finished import FinishedShards, kept_to_one_run
from .policies import POLICIES, Resolution, resolve
from .semantic_ids import SemanticIds


def tokenize(
    model: Tokenizer,
    embeddings: Any,
    unique: str = "optimal",
    existing: SemanticIds | None = None,
    *,
    removed: str = "reserve",
    margins: bool = False,
    item_ids: Any = None,
    batch_size: int = 4096,
    unfinished: str | os.PathLike[str] | None = None,
    fresh: bool = False,
    on_batch: Callable[[int, int], None] | None = None,
) -> SemanticIds:
    """The ID table of a catalog; codes are held whole, embeddings a few batches at a time.

    embeddings: what `Embeddings.open` takes, [N, S]; with `existing`, the whole catalog or only
        what is new.
    unique: how collisions are resolved, see `letter_fast.tokenization.policies`.
    existing: an earlier table. Its items keep their IDs and are not encoded again.
    removed: what becomes of its items that `embeddings` lacks: "reserve" keeps them in the table,
        after the others, so that no later item gets their IDs; "free" drops them.
    margins: also say how much farther the runner-up was at each level, when an item was encoded;
        NaN for items of an existing table without margins. A table that has them keeps them.
    item_ids: [N] ids, for sources that carry none.
    batch_size: rows that are read together; changes no ID.
    unfinished: a folder for codes that are finished, so that the same call goes on where a killed
        one was, see `finished`. It stays; delete it when the table is saved.
    fresh: what `unfinished` holds is dropped.
    on_batch: called with (rows encoded, rows to encode), first with those that were finished.
    Raises:
        ValueError: inputs don't fit the model, more items than IDs, an existing table of other
            codebooks, or unfinished codes of another run.
    """
    validation.choice(unique, POLICIES, "unique")
    catalog = Embeddings.open(embeddings)
    catalog.check_width(model.config.input_dim)
    ids = catalog.item_ids if item_ids is None else checked_ids(item_ids, "item_ids")
    if ids is None:
        ids = pa.array(np.arange(catalog.rows))
    if len(ids) != catalog.rows:
        raise ValueError(f"{len(ids)} item ids for {catalog.rows} rows of embeddings")
    kept = keep(ids, existing, model.quantizer.codebook_sizes, unique, removed)
    new = np.flatnonzero(~kept.known)
    margins = margins or kept.margins is not None

    with kept_to_one_run(unfinished):
        finished = None
        if unfinished is not None:
            facts = {
                "model": model.fingerprint(),
                "input": catalog.version(),
                "rows": hashlib.sha256(kept.known.tobytes()).hexdigest(),
                "margins": margins,
            }
            finished = FinishedShards(unfinished, facts, fresh)
        codes, found_margins = encode_rows(
            model,
            catalog,
            new,
            margins=margins,
            batch_size=batch_size,
            finished=finished,
            on_batch=(lambda done: on_batch(done, len(new))) if on_batch else None,
        )
    resolution = resolve(
        codes,
        LatentsOnDemand(model, catalog, new, batch_size),
        [model.quantizer.codebook(level).detach() for level in range(model.quantizer.levels)],
        unique,
        order=_ranks(ids.take(pa.array(new))),
        held=kept.held,
    )
    del codes  # of a large catalog they are as large as the table
    return id_table(model, ids, kept, existing, resolution, found_margins)


def id_table(
    model: Tokenizer,
    ids: pa.Array,
    kept: Kept,
    existing: SemanticIds | None,
    resolution: Resolution,
    margins: NDArray[np.float32] | None,
) -> SemanticIds:
    """The table of the items `ids` [N], then of absent ones that are reserved.

    kept: those of `existing`; resolution and margins [R, L]: those of new items, in order.
    """
    report = resolution.report
    sizes = resolution.sizes
    metadata = {
        "policy": report.policy,
        "model": model.fingerprint(),
        "resolution": report.to_dict(),
    }
    if existing is not None:
        # A vocabulary never shrinks, and without new items the table stays what it was.
        sizes = [max(pair) for pair in zip(sizes, existing.sizes, strict=True)]
        metadata = metadata if len(resolution.codes) else existing.metadata
    if margins is not None:
        margins = _in_table_order(kept, kept.margins, margins, kept.absent_margins)
    return SemanticIds(
        _in_table_order(kept, kept.codes, resolution.codes, kept.absent_codes),
        sizes,
        pa.concat_arrays([ids, kept.absent_ids]),
        metadata,
        margins,
    )


def _ranks(ids: pa.Array) -> NDArray[np.int64]:
    """The place of each id among all, if they were sorted. ids [R] distinct -> [R]"""
    if pa.types.is_string(ids.type):
        ranks: NDArray[np.int64] = pc.rank(ids, tiebreaker="first").to_numpy().astype(np.int64)
        return ranks
    ranks = np.empty(len(ids), dtype=np.int64)
    ranks[np.argsort(ids.to_numpy())] = np.arange(1, len(ids) + 1)
    return ranks


def _in_table_order(
    kept: Kept, known: NDArray[Any] | None, new: NDArray[Any], absent: NDArray[Any] | None
) -> NDArray[Any]:
    """Rows of known and new items where they are in the catalog, then of absent ones; None is NaN.

    known [known, T], new [R, T], absent [A, T] -> [N + A, T]
    """
    rows = len(kept.known) + len(kept.absent_ids)
    if len(new) == rows:
        return new
    table = np.full((rows, new.shape[1]), np.nan if known is None else 0, dtype=new.dtype)
    catalog = table[: len(kept.known)]
    catalog[~kept.known] = new
    if known is not None:
        catalog[kept.known], table[len(catalog) :] = known, absent
    return table
