"""tokenize on a Ray cluster: shards → encoder → codes → groups by first code → ID table.

Needs the extra: pip install 'letter-fast[ray]'. The IDs are those of `letter_fast.tokenize`:

- Codes don't depend on batches or threads, so not on which worker of one kind computes them.
- Collisions are resolved within a prefix, and items that a prefix has no room for move to one
  beside it. All of that happens below one first code, as long as none has more items than there are
  IDs below it. So items are grouped by their first code, not by the whole prefix; where a first
  code is over-full, all items are one group.

Embeddings and latents stay on the workers. The driver holds ids and codes, some dozen bytes a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
from numpy.typing import NDArray

from letter_fast import validation
from letter_fast.catalog import CatalogError
from letter_fast.catalog.embeddings import checked_ids
from letter_fast.catalog.parquet import as_matrix, id_column, vector_column
from letter_fast.extras import missing
from letter_fast.model import Tokenizer
from letter_fast.tokenization import POLICIES, Resolution, SemanticIds, resolve
from letter_fast.tokenization.encode import codes_of, latents_of
from letter_fast.tokenization.existing import keep
from letter_fast.tokenization.groups import Codes
from letter_fast.tokenization.policies import summarize
from letter_fast.tokenization.table_file import list_column, matrix
from letter_fast.tokenization.tokenizing import id_table

try:
    import ray
    from ray.data import Dataset, read_parquet
except ImportError as error:
    raise missing("ray", "letter_fast.ray", error) from error

# Groups are many and of unequal size; so many partitions a CPU keep all of them busy.
_PARTITIONS = 4


def tokenize(
    model: Tokenizer,
    paths: str | Sequence[str],
    unique: str = "optimal",
    existing: SemanticIds | None = None,
    *,
    removed: str = "reserve",
    margins: bool = False,
    vectors: str | None = None,
    ids: str | None = None,
    batch_size: int = 4096,
) -> SemanticIds:
    """The ID table of parquet shards, computed on the cluster that `ray.init` has joined.

    paths: files or folders, as `ray.data.read_parquet` takes them, with a column of item ids.
    unique, existing, removed, margins, batch_size: as `letter_fast.tokenize`.
    vectors, ids: the columns, where the files don't make them plain.
    Raises:
        ValueError: as `letter_fast.tokenize`.
    """
    validation.choice(unique, POLICIES, "unique")
    paths = [paths] if isinstance(paths, str) else list(paths)
    shards = [pyarrow.dataset.dataset(path, format="parquet") for path in paths]
    schema = shards[0].schema
    vectors, id_name = vector_column(paths[0], schema, vectors), id_column(paths[0], schema, ids)
    if id_name is None:
        raise CatalogError(f"{paths[0]} has no column of item ids, or several; name it")
    columns = pa.concat_tables([shard.to_table([id_name]) for shard in shards])
    names = checked_ids(columns[id_name].combine_chunks(), f"column {id_name!r}")
    kept = keep(names, existing, model.quantizer.codebook_sizes, unique, removed)
    new = names.filter(pa.array(~kept.known))
    margins = margins or kept.margins is not None

    if len(new) == 0:
        resolution = _Resolver(model, unique, kept.held).nothing()
        margin = np.zeros((0, len(model.quantizer.codebook_sizes)), dtype=np.float32)
        return id_table(model, names, kept, existing, resolution, margin if margins else None)

    encoder = _Encoder(model, id_name, vectors, new, margins)
    encoded = (
        read_parquet(paths)
        .select_columns([id_name, vectors])
        .map_batches(encoder.encode, batch_size=batch_size, batch_format="pyarrow")
        .materialize()
    )
    codes, margin = _in_order_of(new, encoded.select_columns(["item_id", "codes", "margin"]))
    _refuse_marked(codes, new)
    resolver = _Resolver(model, unique, kept.held, codes)
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    resolved = (
        encoded.map_batches(resolver.group, batch_format="pyarrow")
        .groupby("group", num_partitions=_PARTITIONS * max(1, int(resources.get("CPU", 1))))
        .map_groups(resolver.resolve, batch_format="pyarrow")
    )
    result, growth, rounds = _in_order_of(new, resolved)
    resolution = resolver.merged(codes, result, float(growth.sum()), int(rounds.max()))
    return id_table(model, names, kept, existing, resolution, margin if margins else None)


class _Encoder:
    """A batch of shards → item_id, codes, margin, latent of the items that are wanted.

    Items with NaN or Inf get codes −1: an error here would reach the driver without its text.
    """

    def __init__(
        self, model: Tokenizer, ids: str, vectors: str, wanted: pa.Array, margins: bool
    ) -> None:
        self._model, self._ids, self._vectors = model, ids, vectors
        self._wanted, self._margins = wanted, margins

    def encode(self, batch: pa.Table) -> pa.Table:
        """Of one batch."""
        ids = batch[self._ids].combine_chunks().cast(self._wanted.type)
        wanted = pc.is_in(ids, value_set=self._wanted)
        ids, vectors = ids.filter(wanted), batch[self._vectors].combine_chunks().filter(wanted)
        quantizer, width = self._model.quantizer, self._model.config.input_dim
        codes = np.full((len(ids), quantizer.levels), -1, dtype=np.int32)
        margins = np.zeros(codes.shape, dtype=np.float32)
        latents = np.zeros((len(ids), quantizer.dim), dtype=np.float32)
        if len(ids):
            where = f"the batch from item {ids[0].as_py()!r} on"
            with np.errstate(over="ignore"):
                rows = as_matrix(vectors, np.arange(len(ids)), where, width).astype(np.float32)
            finite = np.isfinite(rows).all(axis=1)
            z = latents_of(self._model, rows[finite])
            found = codes_of(self._model, z, self._margins)
            codes[finite], latents[finite] = found.codes, z.cpu().numpy()
            if found.margins is not None:
                margins[finite] = found.margins
        return pa.table(
            {
                "item_id": ids,
                "codes": list_column(codes),
                "margin": list_column(margins),
                "latent": list_column(latents),
            }
        )


class _Resolver:
    """All items of a group → item_id, IDs, growth of the distortion, rounds of Sinkhorn.

    codes [R, L]: of all new items, which say how they must be grouped.
    """

    def __init__(
        self, model: Tokenizer, unique: str, held: Codes, codes: Codes | None = None
    ) -> None:
        self._sizes = model.quantizer.codebook_sizes
        self._books = model.quantizer.codebooks.detach().cpu().split(self._sizes)
        self._unique, self._held = unique, held
        first = held[:, 0] if codes is None else np.concatenate([codes[:, 0], held[:, 0]])
        self._one_group = bool(np.bincount(first, minlength=1).max() > prod(self._sizes[1:]))

    def group(self, batch: pa.Table) -> pa.Table:
        """The batch with a column of the groups its items belong to."""
        first = matrix(batch["codes"].combine_chunks())[:, 0]
        return batch.append_column("group", pa.array(first * (not self._one_group)))

    def resolve(self, items: pa.Table) -> pa.Table:
        """Of one group."""
        ids = items["item_id"].combine_chunks()
        codes = matrix(items["codes"].combine_chunks())
        held = self._held
        result, _, report = resolve(
            codes,
            matrix(items["latent"].combine_chunks()),
            self._books,
            self._unique,
            order=pc.rank(ids, tiebreaker="first").to_numpy().astype(np.int64),
            held=held if self._one_group else held[held[:, 0] == codes[0, 0]],
        )
        return pa.table(
            {
                "item_id": ids,
                "codes": list_column(result.astype(np.int32)),
                "growth": np.full(len(ids), report.added_distortion),
                "rounds": np.full(len(ids), report.rounds),
            }
        )

    def merged(self, codes: Codes, result: Codes, growth: float, rounds: int) -> Resolution:
        """What all groups together are. codes [R, L] before, result [R, T] after"""
        sizes = self._sizes
        if self._unique == "suffix":
            used = np.concatenate([result[:, -1], self._held[:, -1]]).max(initial=0)
            sizes = [*sizes, int(used) + 1]
        report = summarize(self._unique, codes, result, self._held, sizes, growth, rounds)
        return Resolution(result, sizes, report)

    def nothing(self) -> Resolution:
        """Where there are no new items."""
        codes = np.zeros((0, len(self._sizes)), dtype=np.int64)
        return resolve(codes, self._books[0][:0], self._books, self._unique, held=self._held)


def _refuse_marked(codes: Codes, ids: pa.Array) -> None:
    marked = codes[:, 0] < 0
    if marked.any():
        raise CatalogError(
            f"{marked.sum()} items hold NaN or Inf, or leave the range of float32, the first is "
            f"{ids[int(marked.argmax())].as_py()!r}; repair or drop them"
        )


def _in_order_of(ids: pa.Array, dataset: Dataset) -> list[NDArray[Any]]:
    """All columns but the first, item_id, on the driver and in the order of `ids`."""
    table = pa.concat_tables(part for part in ray.get(dataset.to_arrow_refs()) if len(part))
    rows = pc.index_in(ids, value_set=table["item_id"])
    columns = [column.combine_chunks().take(rows) for column in table.columns[1:]]
    return [
        matrix(column) if pa.types.is_nested(column.type) else column.to_numpy()
        for column in columns
    ]
