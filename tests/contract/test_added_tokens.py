"""Words of IDs come back as their ids from every kind of tokenizer, or the tokenizer is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from letter_fast.tokenization import Vocabulary

pytest.importorskip("transformers", reason="transformers is not installed")
pytestmark = pytest.mark.filterwarnings("default")

SIZES = [12, 3, 101]
LETTERS = "▁Ġabcdefghijklmnopqrstuvwxyz:,<>[]|_0123456789"
TEXTS = ["", "next: ", "next:", "x", "  ", "next:\n"]


def fast(model: Any, normalizer: Any = None, pre_tokenizer: Any = None) -> Any:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(model)
    if normalizer is not None:
        made.normalizer = normalizer
    if pre_tokenizer is not None:
        made.pre_tokenizer = pre_tokenizer
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", eos_token="</s>")


def letters() -> Any:
    from tokenizers import models

    words = {word: place for place, word in enumerate(["<unk>", "</s>", *LETTERS])}
    return models.BPE(words, [], unk_token="<unk>", fuse_unk=True)


def llama_2() -> Any:
    from tokenizers import normalizers

    before = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    return fast(letters(), normalizers.Sequence(before))


def t5() -> Any:
    from tokenizers import models, pre_tokenizers

    words = [("<unk>", 0.0), ("</s>", 0.0), *((letter, -1.0) for letter in LETTERS)]
    return fast(models.Unigram(words, unk_id=0), pre_tokenizer=pre_tokenizers.Metaspace())


def qwen_2() -> Any:
    from tokenizers import normalizers, pre_tokenizers

    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return fast(letters(), normalizers.NFC(), bytes_)


def bert() -> Any:
    from tokenizers import models, normalizers, pre_tokenizers

    words = {word: place for place, word in enumerate(["<unk>", "</s>", "next", *LETTERS])}
    return fast(
        models.WordPiece(words, unk_token="<unk>"),
        normalizers.BertNormalizer(lowercase=True),
        pre_tokenizers.BertPreTokenizer(),
    )


KINDS = {kind.__name__: kind for kind in (llama_2, t5, qwen_2, bert)}
TEMPLATES = ["<{letter}_{code}>", "<s_{letter}_{code}>", "[SID-{level}-{code}]", "C{level}.{code}"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_joined_words_come_back_as_their_ids(kind: str, template: str) -> None:
    tokenizer = KINDS[kind]()
    vocabulary = Vocabulary(SIZES, template)
    added = vocabulary.add_to(tokenizer)
    codes = np.random.default_rng(0).integers(0, SIZES, (40, 3))
    wanted = vocabulary.token_ids(codes, added.start)
    for row, words in zip(wanted.tolist(), vocabulary.words(codes)):
        for text in TEXTS:
            for joined in ("".join(words), " ".join(words)):
                read = tokenizer.encode(text + joined + " and", add_special_tokens=False)
                assert [id_ for id_ in read if id_ >= added.start] == row, text + joined
    assert vocabulary.add_to(tokenizer) == (added.start, 0, added.rows)


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_that_were_added_as_plain_strings_work_or_are_refused(kind: str) -> None:
    tokenizer = KINDS[kind]()
    vocabulary = Vocabulary([4, 4])
    tokenizer.add_tokens(vocabulary.tokens())
    start = len(tokenizer) - len(vocabulary)
    try:
        vocabulary.add_to(tokenizer)
    except ValueError as error:
        assert "the tokenizer doesn't find <" in str(error)
        assert "\n" not in str(error)
    else:
        read = tokenizer.encode("next: <a_1><b_2>", add_special_tokens=False)
        assert [id_ for id_ in read if id_ >= start] == [start + 1, start + 6]


@pytest.mark.parametrize("known", ["<a_0>", "<a_3>", "<b_2>"])
def test_a_word_that_the_tokenizer_has_elsewhere_is_refused(known: str) -> None:
    tokenizer = llama_2()
    tokenizer.add_tokens([known, "between"])
    with pytest.raises(ValueError, match="it knew some of these tokens before"):
        Vocabulary([4, 4]).add_to(tokenizer)


def test_a_tokenizer_that_breaks_words_is_refused() -> None:
    class Breaking:
        """Adds what it is given, and reads letters."""

        def add_tokens(self, tokens: list[Any]) -> int:
            return len(tokens)

        def convert_tokens_to_ids(self, tokens: list[str]) -> list[int]:
            return list(range(len(tokens)))

        def encode(self, text: str, add_special_tokens: bool) -> list[int]:
            return [99] * len(text)

    with pytest.raises(ValueError, match=r"the tokenizer doesn't find <a_0> in '<a_0><b_0>"):
        Vocabulary([4, 4]).add_to(Breaking())


@pytest.mark.parametrize(
    ("template", "sizes"),
    [
        ("<a_{code}>", [4, 4]),
        ("<{letter}>", [4, 4]),
        ("{level}_{code}", [256] * 3),  # 0_1 and 1_2, joined, begin with 0_11
        ("{level}{code}", [256] * 3),
        ("<{level}{code}>", [256] * 12),  # level 1, code 11 and level 11, code 1
        ("<{letter}_{code:.1e}>", [100_000] * 2),
        ("<{letter:.0}{code}>", [4, 4]),
    ],
)
def test_templates_that_collide_are_refused(template: str, sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="template"):
        Vocabulary(sizes, template)
