"""Data sets: who had what in which order, split by time, and what is known of the items."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from letter_fast.catalog import Embeddings
from letter_fast.demo.cooccurrence import cooccurrence_vectors
from letter_fast.demo.movielens import load_interactions, load_movies

from .interactions import Columns, read_interactions

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
NAMES = ("industrial", "movielens", "instruments", "beauty")
_CF_WIDTH = 32


class Cases(NamedTuple):
    """Histories of item rows, oldest first, and the item that came next. B of each"""

    histories: list[list[int]]
    targets: NDArray[np.int64]

    def first(self, most: int, seed: int = 0) -> Cases:
        """At most `most` of the cases, drawn at random, in their order."""
        if len(self.targets) <= most:
            return self
        drawn = np.random.default_rng(seed).permutation(len(self.targets))[:most]
        drawn.sort()
        return Cases([self.histories[row] for row in drawn], self.targets[drawn])


class Dataset(NamedTuple):
    """A catalog of N items and its users' sequences.

    sequences: training interactions of each user, oldest first; everything that is learned is
        learned from them. text [N, S], cf [N, H] float32 where known; an item without interactions
        in training has a zero row in cf. published [N, L]: codes that others have published.
    """

    name: str
    items: int
    sequences: list[list[int]]
    valid: Cases
    test: Cases
    text: NDArray[np.float32] | None = None
    cf: NDArray[np.float32] | None = None
    published: NDArray[np.int64] | None = None


def load(name: str, columns: Columns, text: Path | None, shared: Path = SHARED) -> Dataset:
    """A data set by name (those but movielens from the folder `shared`), or of a file.

    Raises:
        ValueError: its files are absent, or are not what they should be.
    """
    if name == "movielens":
        return movielens()
    if name not in NAMES:
        return of_file(Path(name), columns, text)
    folder = shared / name
    if not folder.is_dir():
        raise ValueError(f"{name} needs the folder {folder}, which is not there")
    return industrial(folder) if name == "industrial" else published(folder)


def industrial(folder: Path) -> Dataset:
    """Amazon Industrial and Scientific, split by date by its publishers.

    Training: of each user of valid.parquet the longest history. Validation: the rows whose target
    is not in that history, so that no row asks for what was trained on. Test: all of test.parquet,
    later than both.
    """
    rows = pq.read_table(folder / "valid.parquet").to_pydict()
    longest: dict[str, list[int]] = {}
    for user, history in zip(rows["user"], rows["history"]):
        if len(history) > len(longest.get(user, [])):
            longest[user] = history
    unseen = [
        place
        for place, (user, target) in enumerate(zip(rows["user"], rows["target"]))
        if target not in longest[user]
    ]
    valid = Cases([rows["history"][place] for place in unseen], np.array(rows["target"])[unseen])
    later = pq.read_table(folder / "test.parquet").to_pydict()
    test = Cases(later["history"], np.array(later["target"]))
    text = np.load(folder / "text_embeddings.npy").astype(np.float32)
    cf = np.load(folder / "cf_embeddings.npy")
    return Dataset("industrial", len(text), list(longest.values()), valid, test, text, cf)


def movielens() -> Dataset:
    """MovieLens-100k of the recbole wheel; all ratings are interactions, the last two held out."""
    movies = load_movies()
    rated = load_interactions(movies.ids)
    sequences, valid, test = leave_last_out(sequences_of(*rated))
    cf = cooccurrence_vectors(sequences, len(movies.ids), _CF_WIDTH)
    return Dataset("movielens", len(movies.ids), sequences, valid, test, movies.text, cf)


def published(folder: Path) -> Dataset:
    """Full sequences and published IDs; the text is not public."""
    table = pq.read_table(folder / "sequences.parquet").to_pydict()
    codes = np.load(folder / "published_letter_ids.npy").astype(np.int64)
    split = leave_last_out(table["items"])
    return Dataset(folder.name, len(codes), *split, published=codes)


def of_file(path: Path, columns: Columns, text: Path | None) -> Dataset:
    """Anybody's interactions; with a file of item embeddings also the tokenizers that need text.

    The catalog is the file of embeddings, which carries item ids; without it, the items that
    somebody had.
    """
    found = read_interactions(path, columns)
    embeddings = None if text is None else Embeddings.open(text)
    if embeddings is None:
        names, items = np.unique(found.items, return_inverse=True)
    else:
        if embeddings.item_ids is None:
            raise ValueError(f"{embeddings.name} has no item ids, by which to match {path}")
        names = np.array([str(name) for name in embeddings.item_ids.to_pylist()])
        place = {name: row for row, name in enumerate(names)}
        unknown = [name for name in found.items.tolist() if name not in place]
        if unknown:
            raise ValueError(
                f"{path}: {len(unknown)} interactions are with items that {embeddings.name} lacks, "
                f"the first is {unknown[0]}"
            )
        items = np.array([place[name] for name in found.items.tolist()])
    _, users = np.unique(found.users, return_inverse=True)
    sequences, valid, test = leave_last_out(sequences_of(users, items, found.times))
    if embeddings is None:
        return Dataset(path.stem, len(names), sequences, valid, test)
    rows = embeddings.take(np.arange(len(names)))
    cf = cooccurrence_vectors(sequences, len(names), min(_CF_WIDTH, len(names) - 1))
    return Dataset(path.stem, len(names), sequences, valid, test, rows, cf)


def sequences_of(users: NDArray[Any], items: NDArray[Any], times: NDArray[Any]) -> list[list[int]]:
    """Each user's items by time; those of one time stay in the order of the file. [M] each"""
    order = np.lexsort([np.arange(len(users)), times, users])
    cuts = np.flatnonzero(np.diff(users[order])) + 1
    return [part.tolist() for part in np.split(items[order], cuts)]


def leave_last_out(sequences: Sequence[list[int]]) -> tuple[list[list[int]], Cases, Cases]:
    """Training sequences, validation and test: the last item is the test, the one before it
    validation. A user with fewer than three items is all training.
    """
    long = [sequence for sequence in sequences if len(sequence) > 2]
    short = [sequence for sequence in sequences if len(sequence) <= 2]
    held = [
        Cases([s[: len(s) + end] for s in long], np.array([s[end] for s in long], dtype=np.int64))
        for end in (-2, -1)
    ]
    return [*(sequence[:-2] for sequence in long), *short], held[0], held[1]
