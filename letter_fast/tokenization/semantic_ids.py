"""The ID table: which tuple of codes names which item."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from letter_fast import validation
from letter_fast.catalog.id_types import ItemId, asked_ids
from letter_fast.catalog.item_ids import ItemIds
from letter_fast.options import shown
from letter_fast.paths import local_path

from . import hub
from .codes import checked_token_ids, token_id
from .decoding import IdConstraint
from .digests import Digests
from .formats import Facts, FormatName, export_parts, import_parts
from .groups import Codes
from .held import HeldIds
from .lookup import CodeIndex, ItemIndex, Rows
from .packing import pack, pack_bits
from .table_file import TableParts, as_table, checked_parts, read_table, write_table
from .trie import PrefixTrie
from .vocabulary import LETTER_TOKEN, Vocabulary

if TYPE_CHECKING:
    import pandas


class SemanticIds:
    """Codes of N items, T tokens each.

    Args:
        codes: [N, T] integers, zero-based; kept as int32.
        sizes: T codebook sizes; token t lies in 0 … sizes[t] − 1.
        item_ids: [N] unique, of the types that `catalog.id_types` lists; None takes row numbers.
        metadata: anything JSON holds, stored with the table (policy, model fingerprint, …).
        margins: [N, L ≤ T], how much farther the runner-up was at each level; None if unknown.
        is_live: [N] bool, false of removed items: their IDs stay reserved for them, and they aren't
            recommended. None: all are live.
        digests: [N] uint64 of the embeddings, see `digests`; 0, or None, if unknown.

    Length, codes and lookups are of all rows; `trie`, exports, `evaluate` and `diff` are of live
    items, unless asked otherwise. `name` is what messages call the table.

    Raises:
        ValueError: shapes don't fit, or a code is outside its codebook.
    """

    def __init__(
        self,
        codes: ArrayLike,
        sizes: Sequence[int],
        item_ids: Any = None,
        metadata: Mapping[str, Any] | None = None,
        margins: ArrayLike | None = None,
        *,
        is_live: ArrayLike | None = None,
        digests: Digests | None = None,
    ) -> None:
        self.name = "the ID table"
        self._take(
            checked_parts(
                codes, sizes, item_ids, metadata, margins, is_live=is_live, digests=digests
            )
        )

    def _take(self, parts: TableParts) -> None:
        self.codes: Codes = parts.codes
        self.sizes: list[int] = parts.sizes
        self.names: ItemIds = parts.item_ids
        self.metadata: dict[str, Any] = parts.metadata
        self.margins: NDArray[np.float32] | None = parts.margins
        self.is_live: NDArray[np.bool_] = parts.is_live
        self.digests: Digests | None = parts.digests

    @classmethod
    def of_parts(cls, parts: TableParts, name: str = "the ID table") -> SemanticIds:
        """A table of parts that need no check, such as `checked_parts` gives."""
        table = object.__new__(cls)
        table.name = name
        table._take(parts)
        return table

    def _parts(self) -> TableParts:
        return TableParts(
            self.codes, self.sizes, self.names, self.is_live, self.margins, self.digests,
            self.metadata,
        )  # fmt: skip

    @property
    def item_ids(self) -> pa.Array:
        """[N], as pyarrow has them: string, int64, uint64 or binary."""
        return self.names.array

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[ItemId]:
        """The item ids, in table order."""
        return iter(self.item_ids.to_pylist())

    def __contains__(self, item_id: object) -> bool:
        """Whether the table has this item, removed or not."""
        return self._row(item_id) >= 0

    def __getitem__(self, item_id: ItemId) -> tuple[int, ...]:
        """The ID of an item; KeyError if it has none."""
        row = self._row(item_id)
        if row < 0:
            raise KeyError(item_id)
        return tuple(self.codes[row].tolist())

    def __repr__(self) -> str:
        removed = len(self) - int(self.is_live.sum())
        marked = f"{removed} of them removed, " if removed else ""
        return f"SemanticIds({len(self)} items, {marked}sizes={self.sizes})"

    def live(self) -> SemanticIds:
        """The table of live items only; itself if there are no others."""
        if self.is_live.all():
            return self
        return self._part(self.is_live)

    def _part(self, chosen: NDArray[np.bool_]) -> SemanticIds:
        """Chosen rows. [N] bool"""
        parts = TableParts(
            self.codes[chosen],
            self.sizes,
            self.names.filter(chosen),
            self.is_live[chosen],
            None if self.margins is None else self.margins[chosen],
            None if self.digests is None else self.digests[chosen],
            self.metadata,
        )
        return self.of_parts(parts, self.name)

    # Lookups

    def codes_of(self, item_id: ItemId) -> tuple[int, ...]:
        """`ids[item_id]`: the ID of an item; KeyError if it has none."""
        return self[item_id]

    def _row(self, item_id: object) -> int:
        """The row of an item, −1 of what isn't one."""
        kind = self.item_ids.type
        if kind == pa.binary() and isinstance(item_id, str):
            item_id = item_id.encode()
        if isinstance(item_id, np.integer):
            item_id = int(item_id)
        python = {pa.string(): str, pa.binary(): bytes}.get(kind, int)
        if not isinstance(item_id, python) or isinstance(item_id, bool):
            return -1
        return self._item_index.row(item_id)

    def items_of(self, codes: Sequence[int]) -> list[ItemId]:
        """The items an ID names: none, one, or (with collisions) several."""
        return self._items(self._code_index.all_rows(codes))

    def rows_of_items(self, item_ids: Any) -> Rows:
        """The row of each item, −1 of an unknown one: `ids.codes[rows]`. item_ids [B] -> [B]

        Raises:
            ValueError: what is asked for can't be such an id (17 and "17" name one item, "017" does
                not).
        """
        wanted = asked_ids(item_ids, self.item_ids.type)
        there = wanted.is_valid().to_numpy(zero_copy_only=False)
        rows = np.full(len(wanted), -1)
        rows[there] = self._item_index.rows(wanted.drop_null())
        return rows

    def rows_of_codes(self, codes: ArrayLike) -> Rows:
        """The row each ID names, −1 where none; with collisions the first, live ones before others.

        codes [B, T] -> [B]
        """
        return self._code_index.rows(np.asarray(codes))

    def duplicates(self) -> dict[tuple[int, ...], list[ItemId]]:
        """The IDs that name more than one item."""
        return {
            tuple(self.codes[rows[0]].tolist()): self._items(rows)
            for rows in self._code_index.shared()
        }

    def _items(self, rows: Rows) -> list[ItemId]:
        items: list[ItemId] = self.item_ids.take(pa.array(rows)).to_pylist()
        return items

    @cached_property
    def _item_index(self) -> ItemIndex:
        return ItemIndex(self.names)

    @cached_property
    def held_ids(self) -> HeldIds:
        """All IDs, so that a later table gives none of them again."""
        return HeldIds(self.codes, self.sizes)

    @cached_property
    def _code_index(self) -> CodeIndex:
        return CodeIndex(self.codes, self.sizes, self.is_live)

    @cached_property
    def _live_trie(self) -> PrefixTrie:
        return PrefixTrie(self.codes[self.is_live], self.sizes)

    # For a recommender

    def tokens(self, rows: Sequence[int] | slice | None = None) -> list[list[str]]:
        """The tokens of each item, or of those in `rows`; "<a_12>" is code 12 of level 1."""
        try:
            codes = self.codes if rows is None else self.codes[rows]
        except IndexError as error:
            raise ValueError(f"rows must be row numbers below {len(self)}: {error}") from error
        return self.vocabulary().words(codes)

    def token_ids(self, start: int = 0) -> NDArray[np.int64]:
        """Each token's place in the vocabulary, from `start` on, for a model to read. [N, T]"""
        return self.vocabulary().token_ids(self.codes, start)

    def vocabulary(self, template: str = LETTER_TOKEN) -> Vocabulary:
        """Every token there can be, in an order independent of those in use."""
        return Vocabulary(self.sizes, template)

    def trie(self, with_removed: bool = False, items: Any = None) -> PrefixTrie:
        """The prefix tree of the IDs of live items, for constrained decoding; or of all IDs.

        items: ids of those that may be generated, as what is in stock; None: all of them. Removed
            ones among them stay out, unless `with_removed`.
        Raises:
            ValueError: the table lacks one of `items`.
        """
        validation.flags(with_removed=with_removed)
        if items is not None:
            rows = self._known(items, "items")
            rows = rows if with_removed else rows[self.is_live[rows]]
            return PrefixTrie(self.codes[np.unique(rows)], self.sizes)
        everyone = with_removed or bool(self.is_live.all())
        return self._code_index.trie if everyone else self._live_trie

    def decode(
        self, sequences: Any, start: int, prompt_length: int, beams: int = 1
    ) -> list[list[ItemId]]:
        """The live items that a model generated for each prompt, best first, each once.

        Beam search fills up with IDs that it has already where there are fewer than beams. What
        follows a prompt and is no ID of this table names no item; a shared ID names several.

        sequences: [B · beams, S] token ids as `generate` returns them, with
            `num_return_sequences=beams`.
        start: token id of the first code; prompt_length: `IdConstraint.prompt_length`.
        Raises:
            ValueError: the sequences are too short for an ID, or no multiple of `beams`.
        """
        start, prompt_length = token_id(start), token_id(prompt_length, "prompt_length")
        beams = validation.integer(beams, "beams", 1)
        written = checked_token_ids(sequences.cpu() if hasattr(sequences, "cpu") else sequences)
        levels = len(self.sizes)
        if written.ndim != 2 or written.shape[1] < prompt_length + levels:
            raise ValueError(
                f"sequences must be [B, S] with S at least {prompt_length} + {levels} tokens, got "
                f"{list(written.shape)}: max_new_tokens must be {levels} or more"
            )
        if len(written) % beams:
            raise ValueError(f"{len(written)} sequences are not a multiple of {beams} beams")
        generated = written[:, prompt_length : prompt_length + levels]
        codes = generated - (self.vocabulary().offsets + start)
        groups = [
            dict.fromkeys(map(tuple, group.tolist())) for group in codes.reshape(-1, beams, levels)
        ]
        return [[item for one in group for item in self._live_items(one)] for group in groups]

    def items_in(self, sequences: Any, start: int, prompt_length: int = 0) -> list[list[ItemId]]:
        """The live items whose IDs a sequence holds behind its prompt, in its order.

        For answers of several IDs, and for IDs inside of text: `IdConstraint` with `count` or
        `begin_token_id`. An ID is T tokens of the levels 1 … T in a row; others name no item.

        sequences: [B, S] token ids, or B lists of them. start: token id of the first code.
        """
        start, prompt_length = token_id(start), token_id(prompt_length, "prompt_length")
        levels, names = len(self.sizes), self.vocabulary().offsets + start
        found: list[list[ItemId]] = []
        if not isinstance(sequences, Iterable):
            raise ValueError(f"sequences must be token ids [B, S], got {shown(sequences)}")
        for sequence in sequences:
            tokens = checked_token_ids(
                sequence.tolist() if hasattr(sequence, "tolist") else sequence
            )
            answer = tokens[prompt_length:]
            if len(answer) < levels:
                found.append([])
                continue
            codes = np.lib.stride_tricks.sliding_window_view(answer, levels) - names
            whole = ((codes >= 0) & (codes < np.array(self.sizes))).all(axis=1)
            found.append([item for one in codes[whole] for item in self._live_items(one)])
        return found

    def constraint(
        self,
        start: int,
        eos_token_id: int | Sequence[int] | None = None,
        *,
        prompt_length: int | None = None,
        begin_token_id: int | None = None,
        count: int = 1,
        items: Any = None,
        only: Sequence[Any] | None = None,
        excluded: Sequence[Any] | None = None,
    ) -> IdConstraint:
        """A mask of a generator's scores, so that it writes IDs of live items only.

        items: ids of those that may be generated, as what is in stock; None: all of them.
        only: of each prompt, ids of the items that may be generated. excluded: of each prompt, ids
            of those that may not, as what a user has seen; items without an ID are left out, and
            another item that shares an excluded one's ID is excluded with it.
        Other arguments: see `IdConstraint`.

        Raises:
            ValueError: the table lacks one of `items` or `only`, or as `IdConstraint`.
        """
        return IdConstraint(
            self.trie(items=items),
            start,
            prompt_length,
            eos_token_id,
            begin_token_id=begin_token_id,
            count=count,
            only=None if only is None else [self.codes[self._known(one, "only")] for one in only],
            excluded=None
            if excluded is None
            else [self.codes[rows[rows >= 0]] for rows in map(self.rows_of_items, excluded)],
        )

    def _known(self, item_ids: Any, name: str) -> Rows:
        """The rows of items that must be there, live or not."""
        rows = self.rows_of_items(item_ids)
        if (rows < 0).any():
            place = int((rows < 0).argmax())
            raise ValueError(f"{self.name} lacks item {place} of `{name}`")
        return rows

    def _live_items(self, codes: Sequence[int]) -> list[ItemId]:
        rows = self._code_index.all_rows(codes)
        return self._items(rows[self.is_live[rows]])

    def packed(self) -> NDArray[np.int64]:
        """Each ID as one int64, see `packing`; ValueError if they outnumber it. [N]"""
        return pack(self.codes, self.sizes)

    def packed_bits(self) -> NDArray[np.uint8]:
        """Each ID as FAISS packs it, see `packing`. [N, bytes]"""
        return pack_bits(self.codes, self.sizes)

    # Tables of other libraries

    def to_arrow(self) -> pa.Table:
        """The columns that `save` writes, with their metadata: item_id, codes, live, …"""
        return as_table(self._parts())

    def to_pandas(self) -> pandas.DataFrame:
        """`to_arrow` as a DataFrame, codes as one integer column a token: code_1, code_2, …

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        wide = self.codes.astype(np.int64)  # as pandas has integers, so that sums of them fit
        levels = {f"code_{level}": column for level, column in enumerate(wide.T, start=1)}
        plain = pa.table({"item_id": self.item_ids, **levels, "live": pa.array(self.is_live)})
        return plain.to_pandas()

    # Files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the parquet table that `table_file` describes."""
        write_table(path, self._parts())

    @classmethod
    def load(cls, path: str | os.PathLike[str], sizes: Sequence[int] | None = None) -> SemanticIds:
        """Reads what `save` wrote.

        sizes: of the codebooks, for a table whose metadata are gone (pandas drops them).
        Raises:
            ValueError: the file is absent, broken, or not an ID table.
        """
        return cls.of_parts(read_table(path, sizes), str(path))

    def export(
        self,
        path: str | os.PathLike[str],
        format: FormatName,
        *,
        with_removed: bool = False,
        **given: Any,
    ) -> Facts:
        """Writes the table in another project's format, and the facts about it beside it.

        format: a key of `FORMATS`, as "letter".
        with_removed: also the items that are marked as removed, which no reader can tell from
            others; the sidecar says which rows they are.
        given: facts in which files of the format vary, see `FORMATS[format].varies`.
        Raises:
            ValueError: an unknown format, a fact it doesn't have, or IDs that it can't hold.
        """
        validation.flags(with_removed=with_removed)
        table = self if with_removed else self.live()
        return export_parts(table._parts(), path, format, **given)

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        format: FormatName | None = None,
        *,
        sizes: Sequence[int] | None = None,
        item_ids: Any = None,
        **given: Any,
    ) -> SemanticIds:
        """Reads a table from another project's format.

        What the sidecar says need not be said here, and is checked; without one:
        format: a key of `FORMATS`. sizes: [T] codebook sizes; None takes each level's largest
        code + 1, where codes can be told without. item_ids: [N], of rows that are only numbered.
        given: facts in which files of the format vary, see `FORMATS[format].varies`.

        Raises:
            ValueError: not such a file, something is missing, or the sidecar contradicts.
        """
        parts = import_parts(path, format, sizes=sizes, item_ids=item_ids, **given)
        return cls.of_parts(parts)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        file: str = hub.TABLE_FILE,
        repo_type: str = "model",
        license: str | None = None,
        commit_message: str = "Semantic IDs",
        private: bool | None = None,
        token: str | None = None,
        revision: str | None = None,
    ) -> str:
        """Uploads the table to a repository of the Hugging Face hub, made if need be.

        repo_type: model, beside the model that made it, or dataset. license: for the card, which is
            written where the repository has none. Other arguments: as `huggingface_hub` has them.
        -> the commit's address
        Raises:
            ValueError: another repo_type, or a file that doesn't end in .parquet.
        """
        return hub.push(
            self._parts(), repo_id, file=file, repo_type=repo_type, license=license,
            commit_message=commit_message, private=private, token=token, revision=revision,
        )  # fmt: skip

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        file: str = hub.TABLE_FILE,
        repo_type: str = "model",
        **options: Any,
    ) -> SemanticIds:
        """The table of a folder, or of a repository of the Hugging Face hub.

        options: of `huggingface_hub.hf_hub_download` (revision, token, cache_dir, …).
        Raises:
            ValueError: as `load`, or neither a folder nor the hub has such a file.
        """
        folder = local_path(name)
        if folder.is_dir():
            return cls.load(folder / file)
        return cls.load(hub.fetch(str(name), file, repo_type, options))

    def to_letter_json(self, path: str | os.PathLike[str]) -> None:
        """LETTER's index.json and its sidecar, see `formats`."""
        self.export(path, "letter")

    @classmethod
    def from_letter_json(
        cls, path: str | os.PathLike[str], sizes: Sequence[int] | None = None
    ) -> SemanticIds:
        """Reads an index.json of LETTER, LC-Rec or MiniOneRec, see `formats`.

        sizes: codebook sizes; without them or a sidecar, each level's largest code + 1.
        Raises:
            ValueError: the file is absent, not such an index, or rows differ in length.
        """
        return cls.read(path, "letter", sizes=sizes)
