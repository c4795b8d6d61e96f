"""The words of a recommender: every token there can be, in one fixed order."""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from letter_fast.options import shown

from .codes import check_codes, checked_sizes, checked_token_ids, token_id

Codes = NDArray[np.int64]

LETTER_TOKEN = "<{letter}_{code}>"
ONEREC_TOKEN = "<s_{letter}_{code}>"


class AddedTokens(NamedTuple):
    """The changes of `Vocabulary.add_to` to a tokenizer.

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
        ValueError: the template doesn't give every code of every level a token of its own, or one
            token and the next may be read as another.
    """

    def __init__(self, sizes: Sequence[int], template: str = LETTER_TOKEN) -> None:
        if not isinstance(template, str):
            raise ValueError(f"template must be a string, got {shown(template)}")
        self.sizes, self.template = checked_sizes(sizes), template
        if "{letter}" in template and len(self.sizes) > len(string.ascii_lowercase):
            raise ValueError(
                f"tokens have letters for 26 levels, this table has {len(self.sizes)}; "
                "use {level} in the template"
            )
        try:
            two = [self._token(level, code) for level in (0, 1) for code in (0, 1)]
            # All of a level may be many; tokens collide by their digits, and at the ends.
            places = [
                (level, code)
                for level, size in enumerate(self.sizes)
                for code in (*range(min(size, 112)), *range(max(112, size - 2), size))
            ]
            named = {place: self._token(*place) for place in places}
        except (KeyError, IndexError, ValueError, AttributeError):
            two = []
        if len(set(two)) < 4:
            raise ValueError(
                f"a token's template needs {{code}} and {{letter}} or {{level}}, got {template!r}"
            )
        _refuse_collisions(named)

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

    def words(self, codes: ArrayLike) -> list[list[str]]:
        """codes [N, T] -> the T tokens of each row

        Raises:
            ValueError: not integers of that shape, or a code is outside its codebook.
        """
        columns = []
        for level, column in enumerate(self._checked(codes).T):
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

    def token_ids(self, codes: ArrayLike, start: int = 0) -> Codes:
        """Place of each token in the vocabulary, counted from `start`. codes [N, T] -> [N, T]

        Raises:
            ValueError: as `words`, or `start` is not a token id.
        """
        return self._checked(codes) + (self.offsets + token_id(start))

    def codes(self, token_ids: ArrayLike, start: int = 0) -> Codes:
        """The inverse of `token_ids`.

        Raises:
            ValueError: a token is not of its place's level.
        """
        given = checked_token_ids(token_ids, "token_ids")
        if given.ndim != 2 or given.shape[1] != len(self.sizes):
            raise ValueError(f"token_ids must be [N, {len(self.sizes)}], got {list(given.shape)}")
        codes = given - (self.offsets + token_id(start))
        wrong = ((codes < 0) | (codes >= np.array(self.sizes))).any(axis=1)
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(
                f"row {row} holds token ids {given[row].tolist()}; levels of {self.sizes} from "
                f"{start} begin at {(self.offsets + start).tolist()}"
            )
        return codes

    def add_to(self, tokenizer: Any) -> AddedTokens:
        """Adds the tokens to a Hugging Face tokenizer; adding them again changes nothing.

        They are found in text as they stand, before the tokenizer normalizes it.
        Raises:
            ValueError: it knows some of them elsewhere, so that their ids are not consecutive, or
                an ID's words, joined, don't come back as their ids. It has been changed then.
        """
        tokens = self.tokens()
        added = tokenizer.add_tokens(_as_they_stand(tokens))
        ids = tokenizer.convert_tokens_to_ids(tokens)
        start = ids[0]
        if ids != list(range(start, start + len(tokens))):
            first = next(place for place, id_ in enumerate(ids) if id_ != start + place)
            raise ValueError(
                f"the tokenizer gives {tokens[first]} the id {ids[first]} instead of "
                f"{start + first}: it knew some of these tokens before; start from one that "
                "doesn't, or use another template"
            )
        self._check_reading(tokenizer, tokens, start)
        return AddedTokens(start, added, len(tokenizer))

    def _check_reading(self, tokenizer: Any, tokens: list[str], start: int) -> None:
        """Whether the tokenizer finds every token, between others and in a text."""
        rows = np.arange(max(self.sizes))[:, None] % np.array(self.sizes)
        together = max(1, 256 // len(self.sizes))  # a text that every tokenizer takes
        for first in range(0, len(rows), together):
            places = self.token_ids(rows[first : first + together]).ravel().tolist()
            text = "".join(tokens[place] for place in places)
            for before in ("", "next: ", "x"):
                read = tokenizer.encode(before + text, add_special_tokens=False)
                found = [id_ - start for id_ in read if start <= id_ < start + len(tokens)]
                if found != places:
                    wrong = next(
                        (place for place, id_ in zip_longest(places, found) if place != id_), None
                    )
                    raise ValueError(
                        f"the tokenizer doesn't find {tokens[wrong or 0]} in "
                        f"{before + text[:40]!r}…: it knew this token before and normalizes it, or "
                        "splits it; start from one that doesn't know it, or use another template"
                    )

    def _checked(self, codes: ArrayLike) -> NDArray[Any]:
        found = np.asarray(codes)
        check_codes("codes", found, self.sizes)
        return found

    def _token(self, level: int, code: int) -> str:
        # Past the 26th level the constructor allows only templates without {letter}.
        letter = string.ascii_lowercase[level % 26]
        return self.template.format(letter=letter, level=level, code=code)


def _refuse_collisions(named: dict[tuple[int, int], str]) -> None:
    """named: (level, code) -> token.

    Tokens are read from the left, the longest first. One that begins another is read as that where
    what follows it goes on so.
    """
    begun: list[tuple[int, int]] = []
    firsts = {token[:1] for token in named.values()}
    for place in sorted(named, key=named.__getitem__):
        token = named[place]
        while begun and not token.startswith(named[begun[-1]]):
            begun.pop()
        for earlier in begun:
            rest = token.removeprefix(named[earlier])
            if rest[:1] in firsts or not rest:
                (level, code), (other_level, other_code) = earlier, place
                raise ValueError(
                    f"code {code} of level {level + 1} would be {named[earlier]!r}, code "
                    f"{other_code} of level {other_level + 1} {token!r}, which a reader can't tell "
                    "apart: use another template"
                )
        begun.append(place)


def _as_they_stand(tokens: list[str]) -> Sequence[Any]:
    """For a tokenizer: tokens that are not normalized, as one that prepends "▁" would break them.

    transformers brings the package `tokenizers`.
    """
    try:
        from tokenizers import AddedToken
    except ImportError:
        return tokens
    return [AddedToken(token, normalized=False) for token in tokens]
