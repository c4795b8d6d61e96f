"""The columns of vectors and of item ids: known, or asked for.

The rule for ids, of any source with columns, vectors aside:

1. what is said (`ids=`, `--ids`, or what the model was trained with): that column, or "row" for
   row numbers; refused where the source has no such column, or one of a type that names nothing;
2. no column besides vectors: row numbers;
3. one column that is called as item ids are (`is_known`), whatever else there is: that one,
   refused if its type names nothing;
4. otherwise the choice is the user's: an error that lists what there is.

A name says what a column is; its type or its values don't: a column of distinct integers may be a
price.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from shlex import quote

import pyarrow as pa

from .errors import CatalogError
from .id_types import names_items, refusal

ROW = "row"
"""Instead of a column's name: items are row numbers."""

_THINGS = (
    "app", "article", "book", "business", "content", "course", "doc", "document", "game", "goods",
    "item", "listing", "movie", "news", "offer", "product", "recipe", "song", "track", "video",
)  # fmt: skip
_KNOWN = {
    "asin", "ean", "gtin", "guid", "id", "ids", "iid", "isbn", "item", "items", "parentasin", "pid",
    "sku", "upc", "uuid", "vid",
    *(thing + ending for thing in _THINGS for ending in ("id", "ids", "sku", "uuid")),
}  # fmt: skip
# Columns of a wide table that an error lists.
_LISTED = 12


@dataclass(frozen=True)
class Columns:
    """By name, what was chosen of a source: its vectors, its ids (None: nothing to choose)."""

    vectors: str | None = None
    ids: str | None = None


@dataclass(frozen=True)
class TrainedOn:
    """The columns a model was trained with, which are what to take of the next files too."""

    embeddings: Columns = Columns()
    cf: Columns = Columns()

    def to_dict(self) -> dict[str, dict[str, str]]:
        """Plain values, as config.json holds them; what was not chosen is left out."""
        sides = {name: asdict(columns) for name, columns in vars(self).items()}
        chosen = {
            side: {name: column for name, column in columns.items() if column is not None}
            for side, columns in sides.items()
        }
        return {side: columns for side, columns in chosen.items() if columns}

    @classmethod
    def from_dict(cls, values: object) -> TrainedOn:
        """The inverse of `to_dict`; ValueError if these aren't such values."""
        try:
            sides = dict(values).items()  # type: ignore[call-overload]
            made = cls(**{side: Columns(**names) for side, names in sides})
        except (TypeError, ValueError) as error:
            raise ValueError(f"trained_on must name columns: {error}") from error
        for side in (made.embeddings, made.cf):
            for name in vars(side).values():
                if not isinstance(name, str | None):
                    raise ValueError(f"trained_on must name columns, got {name!r}")
        return made


@dataclass(frozen=True)
class Flags:
    """Names that errors give to the ways to choose."""

    vectors: str = "--vectors"
    ids: str = "--ids"


@dataclass(frozen=True)
class Wanted:
    """The columns that a caller chose, and those to take where none was chosen.

    usual: of the model that will read the source; flags: how errors call the choices.
    """

    vectors: str | None = None
    ids: str | None = None
    usual: Columns = Columns()
    flags: Flags = Flags()

    def choose(self, where: object, schema: pa.Schema) -> Columns:
        """The columns of this source; CatalogError where they aren't known."""
        vectors = self.choose_vectors(where, schema)
        return Columns(vectors, self.choose_ids(where, schema))

    def choose_vectors(self, where: object, schema: pa.Schema) -> str:
        """The column of vectors."""
        if self.vectors is None and self.usual.vectors is not None:
            self._refuse_absent(where, schema, self.usual.vectors)
        return vector_column(where, schema, self.vectors or self.usual.vectors, self.flags)

    def choose_ids(self, where: object, schema: pa.Schema) -> str | None:
        """The column of ids; ROW if row numbers are chosen, None if there is no such column."""
        if self.ids is None and self.usual.ids not in (None, ROW):
            self._refuse_absent(where, schema, str(self.usual.ids))
        wanted = self.ids or self.usual.ids
        found = id_column(where, schema, wanted, self.flags)
        return ROW if wanted == ROW else found

    def refuse_columns(self, where: object, said_only: bool = False) -> None:
        """Refuses a choice in a source that has no columns; row numbers are all there can be.

        said_only: what the model was trained with does not count, for the source was made in
        memory, without a thought of columns.
        """
        for name, flag in ((self.vectors, self.flags.vectors), (self.ids, self.flags.ids)):
            if name not in (None, ROW):
                raise CatalogError(f"{where} has no columns, and no {name!r} for {flag} to choose")
        if self.ids is None and self.usual.ids not in (None, ROW) and not said_only:
            raise CatalogError(
                f"{where} has no columns, but the model's items are named by column "
                f"{self.usual.ids!r}: say {self.flags.ids} {ROW} to take row numbers"
            )

    def _refuse_absent(self, where: object, schema: pa.Schema, name: str) -> None:
        if name not in schema.names:
            raise CatalogError(
                f"{where} has no column {name!r}, which the model was trained with; its columns "
                f"are {_listing(list(schema))}: say {self.flags.vectors} or {self.flags.ids}"
            )


def is_known(name: str) -> bool:
    """Whether a column is called as item ids are: item_id, itemId, "Item ID", item_id:token, …"""
    return re.sub(r"[\s_\-.]", "", name.lower().removesuffix(":token")) in _KNOWN


def vector_column(where: object, schema: pa.Schema, wanted: str | None, flags: Flags) -> str:
    """The column `wanted`, or the only one of float lists; CatalogError if that is none."""
    lists: list[str] = [field.name for field in schema if holds_vectors(field.type)]
    there = _listing(list(schema))
    if wanted is not None:
        if lists.count(wanted) != 1:
            raise CatalogError(
                f"{where} has no column {wanted!r} of float lists; its columns are {there}"
            )
        return wanted
    if len(lists) == 1:
        return lists[0]
    if lists.count("embedding") == 1:
        return "embedding"
    problem = "several columns" if lists else "no column"
    advice = f"say {flags.vectors} NAME" if lists else "one is needed"
    raise CatalogError(f"{where} has {problem} of float lists: {advice}; its columns are {there}")


def id_column(where: object, schema: pa.Schema, wanted: str | None, flags: Flags) -> str | None:
    """The column that names the items, by the rule above; None: their row numbers do."""
    columns = [field for field in schema if not holds_vectors(field.type)]
    names = [field.name for field in columns]
    if wanted == ROW:
        if ROW in names:
            raise CatalogError(
                f"{where} has a column {ROW!r}, and {flags.ids} {ROW} means row numbers: rename it"
            )
        return None
    if wanted is not None:
        if names.count(wanted) != 1:
            raise CatalogError(
                f"{where} has no column {wanted!r} of item ids; its columns are "
                f"{_listing(list(schema))}: {_choices(columns, flags)}"
            )
        return _able(where, columns[names.index(wanted)], columns, flags)
    if not columns:
        return None
    known = [field for field in columns if is_known(field.name)]
    if len(known) == 1:
        return _able(where, known[0], columns, flags)
    problem = (
        f"{_listing(known)} may each name the items"
        if known
        else f"none of {_listing(columns)} is called as item ids are"
    )
    raise CatalogError(f"{where}: {problem}; {_choices(known or columns, flags)}")


def holds_vectors(kind: pa.DataType) -> bool:
    """Whether values of this type are lists of floats."""
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(one(kind) for one in lists) and pa.types.is_floating(kind.value_type)


def _able(where: object, field: pa.Field, columns: list[pa.Field], flags: Flags) -> str:
    if not names_items(field.type):
        others = [other for other in columns if other is not field]
        raise CatalogError(
            f"{where}: column {field.name!r} {refusal(field.type)}; {_choices(others, flags)}"
        )
    return str(field.name)


def _choices(columns: list[pa.Field], flags: Flags) -> str:
    able = [quote(field.name) for field in columns if names_items(field.type)][:_LISTED]
    named = "".join(f"{flags.ids} {name}, " for name in able)
    choice = f"{named}or {flags.ids} {ROW} for row numbers" if able else f"{flags.ids} {ROW}"
    return f"say {choice} (in Python Embeddings.open(…, ids=…))"


def _listing(fields: list[pa.Field]) -> str:
    listed = ", ".join(f"{field.name} ({field.type})" for field in fields[:_LISTED])
    more = len(fields) - _LISTED
    return f"{listed} and {more} more" if more > 0 else listed
