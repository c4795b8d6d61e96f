"""Tokens in a fixed order, as words and as numbers, and in a tokenizer."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from letter_fast.tokenization import Vocabulary
from letter_fast.tokenization.vocabulary import ONEREC_TOKEN


class Tokenizer:
    """The part of a Hugging Face tokenizer that `add_to` uses."""

    def __init__(self, words: list[str]) -> None:
        self.ids = {word: place for place, word in enumerate(words)}

    def __len__(self) -> int:
        return len(self.ids)

    def add_tokens(self, tokens: list[Any]) -> int:
        before = len(self)
        for token in tokens:
            self.ids.setdefault(str(token), len(self.ids))
        return len(self) - before

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return [self.ids[word] for word in re.findall("<.*?>", text)]

    def convert_tokens_to_ids(self, tokens: list[str]) -> list[int]:
        return [self.ids[token] for token in tokens]


def test_order_is_by_level_and_number() -> None:
    vocabulary = Vocabulary([12, 2])
    tokens = vocabulary.tokens()
    assert tokens == [f"<a_{code}>" for code in range(12)] + ["<b_0>", "<b_1>"]
    assert len(vocabulary) == 14
    assert Vocabulary([2, 1], ONEREC_TOKEN).tokens() == ["<s_a_0>", "<s_a_1>", "<s_b_0>"]
    assert Vocabulary([1] * 30, "<{level}:{code}>").tokens()[29] == "<29:0>"


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(0, 40_000), st.data())
def test_words_and_token_ids_are_places_in_it(
    sizes: list[int], start: int, data: st.DataObject
) -> None:
    rows = [[data.draw(st.integers(0, size - 1)) for size in sizes] for _ in range(3)]
    codes = np.array(rows)
    vocabulary = Vocabulary(sizes)
    token_ids, tokens = vocabulary.token_ids(codes, start), vocabulary.tokens()
    words = [[tokens[one - start] for one in row] for row in token_ids.tolist()]
    assert words == vocabulary.words(codes)
    np.testing.assert_array_equal(vocabulary.codes(token_ids, start), codes)
    np.testing.assert_array_equal(vocabulary.parse(words), codes)


def test_what_is_no_id_is_refused() -> None:
    vocabulary = Vocabulary([2, 3])
    with pytest.raises(ValueError, match=r"row 1 is no ID of codebooks of \[2, 3\]"):
        vocabulary.parse([["<a_1>", "<b_2>"], ["<b_2>", "<a_1>"]])
    with pytest.raises(ValueError, match="row 0 is no ID"):
        vocabulary.parse([["<a_1>"]])
    with pytest.raises(ValueError, match=r"row 0 holds token ids \[102, 102\]"):
        vocabulary.codes(np.array([[102, 102]]), start=100)
    assert vocabulary.parse([]).shape == (0, 2)


@pytest.mark.parametrize("template", ["<{code}>", "<{letter}>", "{", "<{other}_{code}>", "{0}"])
def test_templates_that_name_two_codes_alike(template: str) -> None:
    with pytest.raises(ValueError, match=r"needs \{code\} and \{letter\} or \{level\}"):
        Vocabulary([2, 3], template)


def test_more_levels_than_letters() -> None:
    with pytest.raises(ValueError, match="letters for 26 levels, this table has 27"):
        Vocabulary([2] * 27)


def test_a_tokenizer_gets_all_of_them_once() -> None:
    tokenizer = Tokenizer(["the", "a"])
    vocabulary = Vocabulary([11, 3])
    first = vocabulary.add_to(tokenizer)
    assert (first.start, first.added, first.rows) == (2, 14, 16)
    again = vocabulary.add_to(tokenizer)
    assert (again.start, again.added, again.rows) == (2, 0, 16)
    ids = tokenizer.convert_tokens_to_ids(vocabulary.words(np.array([[10, 2]]))[0])
    assert ids == vocabulary.token_ids(np.array([[10, 2]]), first.start)[0].tolist()


def test_a_tokenizer_that_knows_some_elsewhere_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gives <a_1> the id 2 instead of 1: it knew some"):
        Vocabulary([2]).add_to(Tokenizer(["<a_0>", "x"]))
