"""MovieLens-100k as the recbole wheel ships it: item texts, and collaborative vectors.

Only its data files are read; recbole itself is never imported, so its dependencies are not needed.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import svds

from letter_fast.catalog import CatalogError

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
    cf: truncated SVD of the positive PMI of movies rated by the same user; each user's last rating
        is left out, as a test would.
    Raises:
        CatalogError: the recbole wheel is not installed.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    ids, titles, texts = _items(_read("ml-100k.item"))
    words = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\S+").fit_transform(texts)
    text = TruncatedSVD(text_width, random_state=seed).fit_transform(words)
    return Movies(
        ids, titles, text.astype(np.float32), _collaborative(_read("ml-100k.inter"), ids, cf_width)
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


def _collaborative(rows: list[list[str]], ids: list[int], width: int) -> NDArray[np.float32]:
    """[N, width], scaled to a mean norm of 1; movies nobody rated get zeros."""
    column = {item: place for place, item in enumerate(ids)}
    users, items, times = (
        np.array([int(float(row[field])) for row in rows]) for field in (0, 1, 3)
    )
    order = np.lexsort([times, users])
    last = np.append(np.diff(users[order]) != 0, True)
    kept = order[~last]
    places = np.array([column[item] for item in items[kept]])
    seen = sparse.csr_matrix(
        (np.ones(len(kept)), (users[kept], places)), shape=(users.max() + 1, len(ids))
    )
    together = (seen.T @ seen).tocoo()
    apart = together.row != together.col
    row, col, count = together.row[apart], together.col[apart], together.data[apart]
    total, margin = count.sum(), np.bincount(row, weights=count, minlength=len(ids))
    information = np.maximum(np.log(count * total / (margin[row] * margin[col])), 0.0)
    matrix = sparse.csr_matrix((information, (row, col)), shape=(len(ids), len(ids)))
    start = np.ones(len(ids))  # svds is reproducible from a given start
    left, values, _ = svds(matrix, k=width, v0=start)
    vectors = left[:, ::-1] * np.sqrt(values[::-1])
    norms = np.linalg.norm(vectors, axis=1)
    scaled: NDArray[np.float32] = (vectors / norms[norms > 1e-9].mean()).astype(np.float32)
    return scaled
