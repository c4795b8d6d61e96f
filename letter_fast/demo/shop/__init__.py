"""A grocery shop that comes with the package: products with titles, and who bought what.

Products and occasions were written by hand for letter-fast and have its licence; the baskets are
drawn from them at random. So text and taste disagree as they do in real shops: basil stands with
the herbs, and is bought with spaghetti.
"""

from __future__ import annotations

from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import svds

from letter_fast.demo.cooccurrence import cooccurrence_vectors

# Each product is sold so; what a household takes is a habit.
KINDS = ("own brand", "family pack", "organic")


class Shop(NamedTuple):
    """ids, titles and aisles [N]; text [N, S] and cf [N, H] float32."""

    ids: list[str]
    titles: list[str]
    aisles: list[str]
    text: NDArray[np.float32]
    cf: NDArray[np.float32]


def load_shop(
    text_width: int = 96, cf_width: int = 32, households: int = 4000, seed: int = 0
) -> Shop:
    """The whole shop.

    text: TF-IDF of the words of title and aisle, reduced by a truncated SVD.
    cf: `cooccurrence_vectors` of what each household bought.
    """
    names, aisles = [], []
    for aisle, products in _lines("products.txt"):
        names += products
        aisles += [aisle] * len(products)
    rows = {name: row for row, name in enumerate(names)}
    occasions = [[rows[name] for name in needed] for _, needed in _lines("occasions.txt")]
    baskets = _baskets(occasions, households, np.random.default_rng(seed))
    titles = [f"{name}, {kind}" for name in names for kind in KINDS]
    shelves = [aisle for aisle in aisles for _ in KINDS]
    return Shop(
        [f"P{row + 1:04d}" for row in range(len(titles))],
        titles,
        shelves,
        _text_vectors([f"{title}, {shelf}" for title, shelf in zip(titles, shelves)], text_width),
        cooccurrence_vectors(baskets, len(titles), cf_width),
    )


def _lines(name: str) -> list[tuple[str, list[str]]]:
    """The words before each colon, and the list behind it."""
    text = files(__package__).joinpath(name).read_text(encoding="utf-8")
    pairs = (line.split(": ", 1) for line in text.splitlines())
    return [(head, rest.split("|")) for head, rest in pairs]


def _baskets(
    occasions: list[list[int]], households: int, random: np.random.Generator
) -> list[NDArray[np.int64]]:
    """The purchases of each household: half of what its three occasions need, its kind."""
    bought = []
    for _ in range(households):
        kind = int(random.integers(len(KINDS)))
        basket = []
        for occasion in random.choice(len(occasions), size=3, replace=False):
            needed = occasions[occasion]
            some = random.choice(needed, size=(len(needed) + 1) // 2, replace=False)
            strays = random.random(len(some)) < 0.45
            kinds = np.where(strays, random.integers(len(KINDS), size=len(some)), kind)
            basket.append(some * len(KINDS) + kinds)
        bought.append(np.unique(np.concatenate(basket)))
    return bought


def _text_vectors(texts: list[str], width: int) -> NDArray[np.float32]:
    """TF-IDF of words, rows of norm 1, reduced to the largest `width` singular directions."""
    words = [text.lower().replace(",", " ").split() for text in texts]
    places = {word: place for place, word in enumerate(sorted(set().union(*words)))}
    row = np.repeat(np.arange(len(texts)), [len(found) for found in words])
    column = np.array([places[word] for found in words for word in found])
    counts = sparse.csr_matrix((np.ones(len(row)), (row, column)), (len(texts), len(places)))
    rarity = np.log(len(texts) / np.bincount(counts.indices, minlength=len(places))) + 1
    weighted = counts.multiply(rarity).tocsr()
    norms = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    weighted = sparse.diags(1 / norms) @ weighted
    # svds is reproducible from a given start.
    left, values, _ = svds(weighted, k=width, v0=np.ones(min(weighted.shape)))
    vectors: NDArray[np.float32] = (left[:, ::-1] * values[::-1]).astype(np.float32)
    return vectors
