"""A model that decodes under the constraint writes IDs that exist, and can write them all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from letter_fast.tokenization import IdConstraint, SemanticIds, Vocabulary

SIZES = [4, 3, 5]
CODES = np.random.default_rng(0).integers(0, SIZES, (12, 3))
IDS = SemanticIds(CODES, SIZES)
START, EOS = 10, 1
VOCABULARY = START + sum(SIZES) + 2


def sample(constraint: IdConstraint, prompts: torch.Tensor, steps: int) -> torch.Tensor:
    """The way transformers samples with a processor: mask, softmax, draw."""
    sequences = prompts
    for _ in range(steps):
        scores = constraint(sequences, torch.randn(len(sequences), VOCABULARY))
        drawn = torch.multinomial(scores.softmax(-1), 1)
        sequences = torch.cat([sequences, drawn], dim=1)
    return sequences[:, prompts.shape[1] :]


def test_samples_are_ids_and_every_id_is_sampled() -> None:
    prompts = torch.randint(VOCABULARY, (2000, 7))
    written = sample(IdConstraint(IDS.trie(), START, 7, EOS), prompts, 5)
    assert bool((written[:, 3:] == EOS).all())
    codes = Vocabulary(SIZES).codes(written[:, :3].numpy(), START)
    assert bool((IDS.rows_of_codes(codes) >= 0).all())
    assert len(np.unique(codes, axis=0)) == len(np.unique(CODES, axis=0))


def test_allowed_scores_are_untouched_and_the_list_says_the_same() -> None:
    constraint = IdConstraint(IDS.trie(), START, 1, EOS)
    sequence = torch.cat([torch.zeros(1), torch.from_numpy(IDS.token_ids(START)[4])]).long()
    for length in range(1, 5):
        prefix = sequence[:length]
        scores = torch.randn(1, VOCABULARY)
        masked = constraint(prefix[None], scores)
        finite = masked[0].isfinite().nonzero().squeeze(1)
        assert constraint.allowed(0, prefix) == finite.tolist()
        torch.testing.assert_close(masked[0, finite], scores[0, finite], rtol=0, atol=0)


def test_after_the_id_nothing_is_imposed_without_an_end() -> None:
    constraint = IdConstraint(IDS.trie(), START, 0)
    whole = torch.from_numpy(IDS.token_ids(START)[:1])
    for length in range(3):
        constraint(whole[:, :length], torch.randn(1, VOCABULARY))
        constraint.allowed(0, whole[0, :length])
    scores = torch.randn(1, VOCABULARY)
    assert constraint(whole, scores) is scores
    with pytest.raises(ValueError, match="needs eos_token_id"):
        constraint.allowed(0, whole[0])


def test_a_beam_outside_stays_outside() -> None:
    constraint = IdConstraint(IDS.trie(), START)
    prompts = torch.zeros(2, 1, dtype=torch.int64)
    constraint(prompts, torch.randn(2, VOCABULARY))
    beams = torch.tensor([[0, 2], [0, int(IDS.token_ids(START)[0, 0])]])
    inside = ~constraint(beams, torch.randn(2, VOCABULARY)).isneginf().all(dim=1)
    assert inside.tolist() == [False, True]


def test_too_few_scores_name_the_remedy() -> None:
    with pytest.raises(
        ValueError, match="level 1 has token ids 10 to 13, the scores have 12 columns"
    ):
        IdConstraint(IDS.trie(), START, 0)(torch.zeros(1, 0), torch.randn(1, 12))


@pytest.fixture
def tokenizer():  # type: ignore[no-untyped-def]
    """A real one, of three words, made on the spot."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    tokenizers = pytest.importorskip("tokenizers")
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2, "likes": 3}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=model, unk_token="<unk>", pad_token="<pad>", eos_token="</s>"
    )


@pytest.mark.filterwarnings("default")
def test_a_real_tokenizer_reads_ids(tokenizer) -> None:  # type: ignore[no-untyped-def]
    added = IDS.vocabulary().add_to(tokenizer)
    assert (added.start, added.added, added.rows) == (4, 12, 16)
    assert IDS.vocabulary().add_to(tokenizer).added == 0
    text = "likes " + "".join(IDS.tokens([3])[0])
    assert tokenizer(text)["input_ids"] == [3, *IDS.token_ids(added.start)[3].tolist()]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", ["decoder", "encoder-decoder"])
@pytest.mark.parametrize("way", ["processor", "function"])
def test_real_beam_search_writes_ids(tokenizer, kind: str, way: str) -> None:  # type: ignore[no-untyped-def]
    import transformers

    added = IDS.vocabulary().add_to(tokenizer)
    common = dict(vocab_size=added.rows, pad_token_id=0, eos_token_id=EOS)
    if kind == "decoder":
        config = transformers.GPT2Config(
            n_embd=16, n_layer=1, n_head=2, n_positions=32, bos_token_id=EOS, **common
        )
        model = transformers.GPT2LMHeadModel(config).eval()
    else:
        small: dict[str, Any] = dict(
            decoder_start_token_id=0, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2
        )
        config = transformers.T5Config(**small, **common)
        model = transformers.T5ForConditionalGeneration(config).eval()
    prompts = torch.full((2, 5), 3)
    length = 5 if kind == "decoder" else 1
    constraint = IdConstraint(IDS.trie(), added.start, None, EOS)
    how = (
        {"logits_processor": transformers.LogitsProcessorList([constraint])}
        if way == "processor"
        else {"prefix_allowed_tokens_fn": constraint.allowed}
    )
    written = model.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        num_beams=6,
        num_return_sequences=6,
        max_new_tokens=4,
        do_sample=False,
        **how,
    )
    codes = IDS.vocabulary().codes(written[:, length : length + 3].numpy(), added.start)
    assert bool((IDS.rows_of_codes(codes) >= 0).all())
    assert len(np.unique(codes[:6], axis=0)) == 6
    found = IDS.decode(written, added.start, length, beams=6)
    assert found == [IDS.rows_of_codes(codes)[at : at + 6].tolist() for at in (0, 6)]
