"""tokenize: a catalog's codes, then an ID of its own for every item."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from letter_fast import validation
from letter_fast.catalog import Embeddings
from letter_fast.catalog.columns import ROW
from letter_fast.catalog.item_ids import ItemIds
from letter_fast.model import Tokenizer, check_trained, trained_on

from .digests import OF_ZEROS, Digests, digests_of
from .encode import LatentsOnDemand, encode_rows
from .existing import Changes, Keeping, Kept, Refresh, Removed, keep
from .finished import FinishedShards, kept_to_one_run
from .held import HeldIds, ascending
from .policies import POLICIES, Policy, Resolution, resolve
from .provenance import also_made_by, check_model
from .semantic_ids import SemanticIds
from .table_file import TableParts


def tokenize(
    model: Tokenizer,
    embeddings: Any,
    unique: Policy = "optimal",
    existing: SemanticIds | None = None,
    *,
    removed: Removed = "reserve",
    max_removed: float | None = None,
    refresh: Refresh = "none",
    other_model: bool = False,
    margins: bool = False,
    item_ids: Any = None,
    batch_size: int = 4096,
    unfinished: str | os.PathLike[str] | None = None,
    fresh: bool = False,
    on_batch: Callable[[int, int], None] | None = None,
    on_existing: Callable[[Changes], None] | None = None,
) -> SemanticIds:
    """The ID table of a catalog; codes are held whole, embeddings a few batches at a time.

    embeddings: what `Embeddings.open` takes, [N, S]: the whole catalog, or with removed="keep" only
        what is new. Its columns are those the model was trained with, unless it is opened with
        others, `Embeddings.open(path, ids="sku")`.
    unique: how collisions are resolved, see `letter_fast.tokenization.policies`.
    existing: an earlier table. Its items keep their IDs and are not encoded again; their embeddings
        are read, to count those that changed.
    removed: what becomes of its items that `embeddings` lacks: "reserve" leaves them in the table,
        after the others and marked as removed, so that no later item gets their IDs, but they
        themselves should they come back; "keep" leaves them there live; "free" drops them.
    max_removed: largest share of its live items that may be lacking; None sets no limit.
    refresh: "changed" encodes items anew that have another embedding than when they got their ID.
    other_model: `existing` is another model's, and that is meant; the table then lists both.
    margins: also say how much farther the runner-up was at each level, when an item was encoded;
        NaN for items of an existing table without margins. A table that has them keeps them.
    item_ids: [N] ids, for sources that carry none; of a file or table with columns, instead of any.
    batch_size: rows that are read together; changes no ID.
    unfinished: a folder for codes that are finished, so that the same call goes on where a killed
        one was, see `finished`. It stays; delete it when the table is saved.
    fresh: what `unfinished` holds is dropped.
    on_batch: called with (rows encoded, rows to encode), first with those that were finished.
    on_existing: called once, before that, with what became of the items of `existing`.
    Warns:
        UserWarning: more than half of the live items are lacking, or of the kept ones have other
            embeddings, or of the new ones share one; `existing` doesn't say which model made it.
    Raises:
        ValueError: the model was never trained, inputs don't fit it, more items than IDs, an
            existing table of another model or other codebooks, more items lacking than may be, or
            unfinished codes of another run.
    """
    validation.choice(unique, POLICIES, "unique")
    validation.flags(other_model=other_model, margins=margins, fresh=fresh)
    batch_size = validation.integer(batch_size, "batch_size", 1)
    keeping = Keeping(removed, max_removed, refresh)
    keeping.check()
    check_trained(model)
    fingerprint = model.fingerprint()
    if existing is not None:
        check_model(existing, fingerprint, other_model)
    catalog = Embeddings.open(
        embeddings,
        ids=ROW if item_ids is not None else None,
        usual=trained_on(model).embeddings,
    )
    catalog.check_width(model.config.input_dim)
    ids = catalog.item_ids if item_ids is None else ItemIds(item_ids, "item_ids")
    if ids is None:
        ids = ItemIds.row_numbers(catalog.rows)
    if len(ids) != catalog.rows:
        raise ValueError(f"{len(ids)} item ids for {catalog.rows} rows of embeddings")
    kept = keep(
        ids,
        existing,
        model.quantizer.codebook_sizes,
        unique,
        keeping,
        lambda rows: digests_of(catalog, rows, batch_size),
    )
    if on_existing and existing is not None:
        on_existing(kept.changes)
    new = np.flatnonzero(~kept.known)
    margins = margins or kept.margins is not None

    with kept_to_one_run(unfinished):
        finished = None
        if unfinished is not None:
            facts = {
                "model": fingerprint,
                "input": catalog.version(),
                "rows": hashlib.sha256(kept.known.tobytes()).hexdigest(),
                "margins": margins,
            }
            finished = FinishedShards(unfinished, facts, fresh)
        latents = LatentsOnDemand(model, catalog, new, batch_size)
        codes, digests, found_margins = encode_rows(
            model,
            catalog,
            new,
            margins=margins,
            batch_size=batch_size,
            finished=finished,
            latents=latents,
            on_batch=(lambda done: on_batch(done, len(new))) if on_batch else None,
        )
    warn_of_equal(digests)
    resolution = resolve(
        codes,
        latents,
        [model.quantizer.codebook(level).detach() for level in range(model.quantizer.levels)],
        unique,
        order=ids.filter(~kept.known).ranks(),
        held=kept.held,
    )
    del codes  # of a large catalog they are as large as the table
    return id_table(fingerprint, ids, kept, existing, resolution, digests, found_margins)


def id_table(
    fingerprint: str,
    ids: ItemIds,
    kept: Kept,
    existing: SemanticIds | None,
    resolution: Resolution,
    digests: Digests,
    margins: NDArray[np.float32] | None,
) -> SemanticIds:
    """The table of the items `ids` [N], then of those of `existing` that are absent and stay.

    fingerprint: of the model; kept: of `existing`; resolution, digests [R] and margins [R, L]:
        those of the new items, in order.
    """
    report = resolution.report
    sizes = resolution.sizes
    metadata = {"policy": report.policy, "model": fingerprint, "resolution": report.to_dict()}
    if existing is not None:
        # A vocabulary never shrinks, and without new items the table stays what it was.
        sizes = [max(pair) for pair in zip(sizes, existing.sizes, strict=True)]
        earlier = existing.metadata
        if len(resolution.codes):
            metadata = {**earlier, **metadata, **also_made_by(earlier, fingerprint)}
        else:
            metadata = earlier
    if margins is not None:
        margins = _in_table_order(kept, kept.margins, margins, kept.absent_margins)
    parts = TableParts(
        _in_table_order(kept, kept.codes, resolution.codes, kept.absent_codes),
        sizes,
        ids.with_others(kept.absent_ids),
        np.concatenate([np.ones(len(ids), dtype=bool), kept.absent_live]),
        margins,
        _in_table_order(kept, kept.digests, digests, kept.absent_digests),
        dict(metadata),
    )
    table = SemanticIds.of_parts(parts)
    if kept.held.are_sorted and kept.held.sizes == sizes:
        numbers = ascending(resolution.codes, kept.held, sizes)
        table.held_ids = HeldIds(table.codes, sizes, numbers)
    return table


def warn_of_equal(digests: Digests) -> None:
    """Warns where most items that were encoded have the embedding of another. digests [R]"""
    rows = len(digests)
    if 2 * _distinct_at_least(digests) >= rows:
        return
    # Not by `np.unique`, whose hash table takes up to 55 bytes a number.
    ordered = np.sort(digests)
    distinct = int((ordered[1:] != ordered[:-1]).sum()) + min(rows, 1)
    if 2 * distinct >= rows:
        return
    zeros = int((digests == OF_ZEROS).sum())
    what = f"all {rows:,} new items have the same embedding" if distinct == 1 else (
        f"{rows:,} new items have only {distinct:,} different embeddings"
    )  # fmt: skip
    also = f" ({zeros:,} are all zeros)" if zeros else ""
    warnings.warn(
        f"{what}{also}: what IDs such items get is arbitrary; is this the right column?",
        stacklevel=3,
    )


def _distinct_at_least(digests: Digests) -> int:
    """A lower bound of how many digests are different: as many as begin differently."""
    bits = max(len(digests) - 1, 1).bit_length()  # all different ones would take up 0.6 N or more
    there = np.zeros(1 << bits, dtype=bool)
    for start in range(0, len(digests), 1 << 20):
        there[digests[start : start + (1 << 20)] >> np.uint64(64 - bits)] = True
    return int(np.count_nonzero(there))


def _in_table_order(
    kept: Kept, known: NDArray[Any] | None, new: NDArray[Any], absent: NDArray[Any] | None
) -> NDArray[Any]:
    """Rows of known and new items where they are in the catalog, then of absent ones; None is NaN.

    known [known, …], new [R, …], absent [A, …] -> [N + A, …]
    """
    rows = len(kept.known) + len(kept.absent_ids)
    if len(new) == rows:
        return new
    table = np.empty((rows, *new.shape[1:]), dtype=new.dtype)
    if known is None:
        table.fill(np.nan)
    catalog = table[: len(kept.known)]
    catalog[~kept.known] = new
    if known is not None:
        catalog[kept.known], table[len(catalog) :] = known, absent
    return table
