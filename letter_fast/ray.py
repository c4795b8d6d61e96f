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

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
from numpy.typing import NDArray

from letter_fast import validation
from letter_fast.catalog import CatalogError
from letter_fast.catalog.columns import ROW, Columns, Wanted
from letter_fast.catalog.embeddings import Floats
from letter_fast.catalog.id_types import asked_ids, canonical
from letter_fast.catalog.item_ids import ItemIds, concat
from letter_fast.catalog.parquet import as_matrix
from letter_fast.extras import missing
from letter_fast.model import Tokenizer, check_trained, trained_on
from letter_fast.tokenization import POLICIES, Resolution, SemanticIds, resolve
from letter_fast.tokenization.digests import Digests, row_digests
from letter_fast.tokenization.encode import codes_of, latents_of
from letter_fast.tokenization.existing import Changes, Keeping, Refresh, Removed, keep
from letter_fast.tokenization.groups import Codes
from letter_fast.tokenization.held import HeldIds
from letter_fast.tokenization.policies import Policy, summarize
from letter_fast.tokenization.provenance import check_model
from letter_fast.tokenization.table_file import first_line, list_column, matrix
from letter_fast.tokenization.tokenizing import id_table, warn_of_equal

try:
    import ray
    from ray.data import Dataset, read_parquet
    from ray.exceptions import RayTaskError
except ImportError as error:
    raise missing("ray", "letter_fast.ray", error) from error

# Partitions a CPU: groups are many and of unequal size, and these keep all CPUs busy.
_PARTITIONS = 4


def tokenize(
    model: Tokenizer,
    paths: str | Sequence[str],
    unique: Policy = "optimal",
    existing: SemanticIds | None = None,
    *,
    removed: Removed = "reserve",
    max_removed: float | None = None,
    refresh: Refresh = "none",
    other_model: bool = False,
    margins: bool = False,
    vectors: str | None = None,
    ids: str | None = None,
    batch_size: int = 4096,
    on_existing: Callable[[Changes], None] | None = None,
) -> SemanticIds:
    """The ID table of parquet shards, computed on the cluster that `ray.init` has joined.

    paths: files or folders, as `ray.data.read_parquet` takes them, with a column of item ids.
    unique, existing, removed, max_removed, refresh, other_model, margins, batch_size, on_existing:
        as `letter_fast.tokenize`.
    vectors, ids: the columns, where the files don't make them plain.
    Raises:
        ValueError: as `letter_fast.tokenize`, or a shard can't be read.
    """
    validation.choice(unique, POLICIES, "unique")
    keeping = Keeping(removed, max_removed, refresh)
    keeping.check()
    check_trained(model)
    fingerprint = model.fingerprint()
    if existing is not None:
        check_model(existing, fingerprint, other_model)
    paths = [paths] if isinstance(paths, str) else list(paths)
    if not paths:
        raise CatalogError("paths is empty: give files or folders of parquet shards")
    names, columns = _names(paths, Wanted(vectors, ids, trained_on(model).embeddings))

    def digests_of(rows: NDArray[np.int64]) -> Digests:
        if len(rows) == 0:
            return np.zeros(0, dtype=np.uint64)
        chosen = names.array.take(pa.array(rows))
        reader = _Reader(model, *columns, chosen)
        read = read_parquet(paths).select_columns(list(columns))
        batches = read.map_batches(reader.digest, batch_size=batch_size, batch_format="pyarrow")
        return _in_order_of(chosen, batches)[0]

    kept = keep(names, existing, model.quantizer.codebook_sizes, unique, keeping, digests_of)
    if on_existing and existing is not None:
        on_existing(kept.changes)
    new = names.filter(~kept.known).array
    margins = margins or kept.margins is not None

    if len(new) == 0:
        resolution = _Resolver(model, unique, kept.held.codes).nothing()
        margin = np.zeros((0, len(model.quantizer.codebook_sizes)), dtype=np.float32)
        nothing = np.zeros(0, dtype=np.uint64)
        return id_table(
            fingerprint, names, kept, existing, resolution, nothing, margin if margins else None
        )

    encoder = _Encoder(model, *columns, new, margins)
    encoded = (
        read_parquet(paths)
        .select_columns(list(columns))
        .map_batches(encoder.encode, batch_size=batch_size, batch_format="pyarrow")
    )
    with _workers():
        encoded = encoded.materialize()
    told = encoded.select_columns(["item_id", "problem", "codes", "margin", "digest"])
    codes, margin, digests = _in_order_of(new, told)
    warn_of_equal(digests)
    resolver = _Resolver(model, unique, kept.held.codes, codes)
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    resolved = (
        encoded.map_batches(resolver.group, batch_format="pyarrow")
        .groupby("group", num_partitions=_PARTITIONS * max(1, int(resources.get("CPU", 1))))
        .map_groups(resolver.resolve, batch_format="pyarrow")
    )
    result, growth, rounds = _in_order_of(new, resolved)
    resolution = resolver.merged(codes, result, float(growth.sum()), int(rounds.max()))
    return id_table(
        fingerprint, names, kept, existing, resolution, digests, margin if margins else None
    )


def _names(paths: list[str], wanted: Wanted) -> tuple[ItemIds, tuple[str, str]]:
    """The ids of all items, and the columns of ids and vectors, which all shards must have."""
    found: list[pa.Array] = []
    columns = Columns()
    for path in paths:
        try:
            shard = pyarrow.dataset.dataset(path, format="parquet")
            columns = wanted.choose(path, shard.schema)
            if columns.ids in (None, ROW):
                raise CatalogError(
                    f"{path}: there is no column of item ids, and rows of a cluster have no numbers"
                )
            where = f"{path}: column {columns.ids!r}"
            found.append(canonical(shard.to_table([columns.ids])[columns.ids], where))
        except (OSError, pa.ArrowException) as error:
            raise CatalogError(f"{path} can't be read as parquet: {first_line(error)}") from error
        wanted = replace(wanted, vectors=columns.vectors, ids=columns.ids)
    names = ItemIds(concat(found), f"column {columns.ids!r}")
    return names, (str(columns.ids), str(columns.vectors))


class _Reader:
    """A batch of shards → item_id, problem, digest of the items that are wanted.

    problem: what is wrong with an item's vector, or null. An error that is raised here would reach
    the driver without its text.
    """

    def __init__(self, model: Tokenizer, ids: str, vectors: str, wanted: pa.Array) -> None:
        self._model, self._ids, self._vectors, self._wanted = model, ids, vectors, wanted

    def digest(self, batch: pa.Table) -> pa.Table:
        """Of one batch."""
        ids, rows, problems = self.read(batch)
        return pa.table({"item_id": ids, "problem": problems, "digest": row_digests(rows)})

    def read(self, batch: pa.Table) -> tuple[pa.Array, Floats, pa.Array]:
        """Ids [n], vectors [n, S] (0 where there is a problem), problems [n]."""
        ids = asked_ids(batch[self._ids], self._wanted.type)
        wanted = pc.is_in(ids, value_set=self._wanted)
        ids, vectors = ids.filter(wanted), batch[self._vectors].combine_chunks().filter(wanted)
        rows = np.zeros((len(ids), self._model.config.input_dim), dtype=np.float32)
        if len(ids) == 0:
            return ids, rows, pa.nulls(0, pa.string())
        where = f"the batch from item {ids[0].as_py()!r} on"
        try:
            with np.errstate(over="ignore"):
                rows = as_matrix(vectors, np.arange(len(ids)), where, rows.shape[1]).astype(
                    np.float32
                )
        except ValueError as error:
            return ids, rows, pa.array([str(error)] * len(ids))
        finite = np.asarray(np.isfinite(rows).all(axis=1))
        if finite.all():
            return ids, rows, pa.nulls(len(ids), pa.string())
        rows[~finite] = 0.0
        names = pa.array(str(one) for one in ids.to_pylist())
        problem = "holds NaN or Inf, or leaves the range of float32; repair or drop it"
        told = pc.binary_join_element_wise("item", names, problem, " ")
        return ids, rows, pc.if_else(pa.array(finite), None, told)


class _Encoder(_Reader):
    """A batch of shards → item_id, problem, codes, margin, digest, latent of those items."""

    def __init__(
        self, model: Tokenizer, ids: str, vectors: str, wanted: pa.Array, margins: bool
    ) -> None:
        super().__init__(model, ids, vectors, wanted)
        self._margins = margins

    def encode(self, batch: pa.Table) -> pa.Table:
        """Of one batch."""
        ids, rows, problems = self.read(batch)
        quantizer = self._model.quantizer
        codes = np.zeros((len(ids), quantizer.levels), dtype=np.int32)
        margins = np.zeros(codes.shape, dtype=np.float32)
        latents = np.zeros((len(ids), quantizer.dim), dtype=np.float32)
        if len(ids):
            z = latents_of(self._model, rows)
            found = codes_of(self._model, z, row_digests(rows), self._margins)
            codes, latents = found.codes, z.cpu().numpy()
            margins = margins if found.margins is None else found.margins
        return pa.table(
            {
                "item_id": ids,
                "problem": problems,
                "codes": list_column(codes),
                "margin": list_column(margins),
                "digest": row_digests(rows),
                "latent": list_column(latents),
            }
        )


class _Resolver:
    """All items of a group → item_id, IDs, growth of the distortion, rounds of Sinkhorn.

    codes [R, L]: of all new items, which say how they must be grouped.
    """

    def __init__(
        self, model: Tokenizer, unique: Policy, held: Codes, codes: Codes | None = None
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
                "codes": list_column(result),
                "growth": np.full(len(ids), report.added_distortion),
                "rounds": np.full(len(ids), report.rounds),
            }
        )

    def merged(self, codes: Codes, result: Codes, growth: float, rounds: int) -> Resolution:
        """The resolution of all groups together. codes [R, L] before, result [R, T] after"""
        sizes = self._sizes
        if self._unique == "suffix":
            used = np.concatenate([result[:, -1], self._held[:, -1]]).max(initial=0)
            sizes = [*sizes, int(used) + 1]
        held = HeldIds(self._held, sizes)
        report = summarize(self._unique, codes, result, held, sizes, growth, rounds)
        return Resolution(result, sizes, report)

    def nothing(self) -> Resolution:
        """The resolution of no new items."""
        codes = np.zeros((0, len(self._sizes)), dtype=np.int32)
        return resolve(codes, self._books[0][:0], self._books, self._unique, held=self._held)


@contextmanager
def _workers() -> Iterator[None]:
    """Turns what a worker raised into one line."""
    try:
        yield
    except RayTaskError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        said = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Invalid)\w*: ", line)]
        raise CatalogError(f"a worker failed: {(said or lines or ['?'])[-1]}") from error


def _in_order_of(ids: pa.Array, dataset: Dataset) -> list[NDArray[Any]]:
    """All columns but item_id, on the driver and in the order of `ids`.

    Raises:
        CatalogError: a worker failed, or an item has a `problem`.
    """
    with _workers():
        parts = ray.get(dataset.to_arrow_refs())
    table = pa.concat_tables(part for part in parts if len(part))
    if "problem" in table.column_names:
        problems = table["problem"].drop_null()
        if len(problems):
            others = f" ({len(problems):,} items in all)" if len(problems) > 1 else ""
            raise CatalogError(f"{problems[0].as_py()}{others}")
        table = table.drop_columns(["problem"])
    rows = pc.index_in(ids, value_set=table["item_id"])
    columns = [column.combine_chunks().take(rows) for column in table.columns[1:]]
    return [
        matrix(column) if pa.types.is_nested(column.type) else column.to_numpy(zero_copy_only=False)
        for column in columns
    ]
