"""MovieLens-100k as the recbole wheel ships it: item texts, and collaborative vectors.

Only its data files are read; recbole itself is never imported, so its dependencies are not needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from letter_fast.catalog import CatalogError
from letter_fast.demo.cooccurrence import cooccurrence_vectors

_FOLDER = "recbole/dataset_example/ml-100k"


class Movies(NamedTuple):
    """ids [N] of the source; titles [N] with year; text [N, S] float32; cf [N, H] float32."""

    ids: list[int]
    titles: list[str]
    text: NDArray[np.float32]
    cf: NDArray[np.float32]


def load_movies(text_width: int = 256, cf_width: int = 32, seed: int = 0) -> Movies:
    """All 1,682 movies.

    text: TF-IDF of title, year and genres, reduced by truncated SVD.
    cf: `cooccurrence_vectors` of the movies that each user rated; the last rating is left out, as
        a test would.
    Raises:
        CatalogError: the recbole wheel is not installed.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    ids, titles, texts = _items(_read("ml-100k.item"))
    words = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\S+").fit_transform(texts)
    text = TruncatedSVD(text_width, random_state=seed).fit_transform(words)
    seen = _all_but_last(*load_interactions(ids))
    return Movies(
        ids, titles, text.astype(np.float32), cooccurrence_vectors(seen, len(ids), cf_width)
    )


def _read(name: str) -> list[list[str]]:
    """The rows of one tab-separated file, without its header."""
    try:
        listed = files("recbole") or []
    except PackageNotFoundError as error:
        raise CatalogError(
            "the demo reads MovieLens-100k from the recbole wheel: "
            "pip install --no-deps recbole==1.2.1"
        ) from error
    for entry in listed:
        if str(entry) == f"{_FOLDER}/{name}":
            lines = Path(str(entry.locate())).read_text(encoding="utf-8").splitlines()
            return [line.split("\t") for line in lines[1:]]
    raise CatalogError(f"the installed recbole has no {_FOLDER}/{name}: install recbole==1.2.1")


def _items(rows: list[list[str]]) -> tuple[list[int], list[str], list[str]]:
    ids, titles, texts = [], [], []
    for item, title, year, genres in rows:
        ids.append(int(item))
        titles.append(f"{title} ({year})")
        marked = " ".join(f"genre:{genre}" for genre in genres.split())
        texts.append(f"{title.lower()} year:{year} decade:{year[:3]} {marked}")
    return ids, titles, texts


def load_interactions(
    ids: Sequence[int],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The ratings of the movies `ids`: users, rows of `ids`, seconds. [M] each"""
    users, items, times = (
        np.array([int(float(row[field])) for row in _read("ml-100k.inter")]) for field in (0, 1, 3)
    )
    place = {item: row for row, item in enumerate(ids)}
    return users, np.array([place[item] for item in items.tolist()]), times


def _all_but_last(
    users: NDArray[np.int64], rows: NDArray[np.int64], times: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """The rows of each user, without the last in time."""
    order = np.lexsort([times, users])
    cuts = np.flatnonzero(np.diff(users[order])) + 1
    return [part[:-1] for part in np.split(rows[order], cuts)]
