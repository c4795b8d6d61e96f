"""The words of a recommender: every token there can be, in one fixed order."""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]

LETTER_TOKEN = "<{letter}_{code}>"
ONEREC_TOKEN = "<s_{letter}_{code}>"


class AddedTokens(NamedTuple):
    """What `Vocabulary.add_to` did to a tokenizer.

    start: token id of the first code of the first level; the others follow without a gap.
    added: how many tokens are new to it.
    rows: what it now needs of a model: `model.resize_token_embeddings(rows)` if
        `model.get_input_embeddings().num_embeddings` is smaller.
    """

    start: int
    added: int
    rows: int


class Vocabulary:
    """Tokens of codebooks of the given sizes: level by level, code by code.

    The order depends on the sizes alone. Public loaders add the tokens that occur, sorted as text
    ("<a_10>" before "<a_2>"): there a token's id changes with the catalog.

    Args:
        sizes: T codebook sizes.
        template: a token, of {code} and {letter} (a, b, …) or {level} (0, 1, …).

    Raises:
        ValueError: the template doesn't give every code of every level a token of its own.
    """

    def __init__(self, sizes: Sequence[int], template: str = LETTER_TOKEN) -> None:
        self.sizes, self.template = list(sizes), template
        if "{letter}" in template and len(self.sizes) > len(string.ascii_lowercase):
            raise ValueError(
                f"tokens have letters for 26 levels, this table has {len(self.sizes)}; "
                "use {level} in the template"
            )
        try:
            probe = {self._token(level, code) for level in (0, 1) for code in (1, 11)}
        except (KeyError, IndexError, ValueError, AttributeError):
            probe = set()
        if len(probe) < 4:
            raise ValueError(
                f"a token's template needs {{code}} and {{letter}} or {{level}}, got {template!r}"
            )

    def __len__(self) -> int:
        return sum(self.sizes)

    @cached_property
    def offsets(self) -> Codes:
        """Tokens of the levels before each. [T]"""
        return np.cumsum([0, *self.sizes[:-1]], dtype=np.int64)

    def tokens(self) -> list[str]:
        """All tokens, in order."""
        return [
            self._token(level, code)
            for level, size in enumerate(self.sizes)
            for code in range(size)
        ]

    def words(self, codes: NDArray[Any]) -> list[list[str]]:
        """codes [N, T] -> the T tokens of each row"""
        columns = []
        for level, column in enumerate(codes.T):
            used, place = np.unique(column, return_inverse=True)
            names = [self._token(level, code) for code in used.tolist()]
            columns.append([names[one] for one in place.tolist()])
        return [list(row) for row in zip(*columns)]

    def parse(self, words: Iterable[Sequence[str]]) -> Codes:
        """The inverse of `words`.

        Raises:
            ValueError: a row isn't one token of each level, in order.
        """
        known = [
            {self._token(level, code): code for code in range(size)}
            for level, size in enumerate(self.sizes)
        ]
        codes = []
        for row, tokens in enumerate(words):
            found = [level.get(token, -1) for level, token in zip(known, tokens)]
            if len(tokens) != len(known) or -1 in found:
                raise ValueError(f"row {row} is no ID of codebooks of {self.sizes}: {list(tokens)}")
            codes.append(found)
        return np.array(codes, dtype=np.int64).reshape(-1, len(known))

    def token_ids(self, codes: NDArray[Any], start: int = 0) -> Codes:
        """Place of each token in the vocabulary, counted from `start`. codes [N, T] -> [N, T]"""
        return codes.astype(np.int64) + (self.offsets + start)

    def codes(self, token_ids: NDArray[Any], start: int = 0) -> Codes:
        """The inverse of `token_ids`.

        Raises:
            ValueError: a token is not of its place's level.
        """
        codes = token_ids.astype(np.int64) - (self.offsets + start)
        wrong = ((codes < 0) | (codes >= np.array(self.sizes))).any(axis=1)
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(
                f"row {row} holds token ids {token_ids[row].tolist()}; levels of {self.sizes} from "
                f"{start} begin at {(self.offsets + start).tolist()}"
            )
        return codes

    def add_to(self, tokenizer: Any) -> AddedTokens:
        """Adds the tokens to a Hugging Face tokenizer; adding them again changes nothing.

        Raises:
            ValueError: it knows some of them elsewhere, so that their ids are not consecutive.
        """
        tokens = self.tokens()
        added = tokenizer.add_tokens(tokens)
        ids = tokenizer.convert_tokens_to_ids(tokens)
        start = ids[0]
        if ids != list(range(start, start + len(tokens))):
            first = next(place for place, id_ in enumerate(ids) if id_ != start + place)
            raise ValueError(
                f"the tokenizer gives {tokens[first]} the id {ids[first]} instead of "
                f"{start + first}: it knew some of these tokens before; start from one that "
                "doesn't, or use another template"
            )
        return AddedTokens(start, added, len(tokenizer))

    def _token(self, level: int, code: int) -> str:
        # Past the 26th level the constructor allows only templates without {letter}.
        letter = string.ascii_lowercase[level % 26]
        return self.template.format(letter=letter, level=level, code=code)
