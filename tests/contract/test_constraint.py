"""A constraint writes whole IDs that exist, for any model, prompts and beams, or says why not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from letter_fast.tokenization import IdConstraint, SemanticIds
from tests.support.tiny_generators import EOS, PAD, generator_of

SIZES = [8, 4, 6]
IDS = SemanticIds(
    np.unique(np.random.default_rng(0).integers(0, SIZES, (40, 3)), axis=0), SIZES, metadata={}
)
START = 20
WIDTH = START + sum(SIZES) + 3


def scores(rows: int) -> torch.Tensor:
    return torch.randn(rows, WIDTH)


def grown(prompts: torch.Tensor, codes: np.ndarray) -> list[torch.Tensor]:
    """The sequences that a constraint sees, step by step. prompts [B, P], codes [B, T]"""
    tokens = torch.from_numpy(codes + IDS.vocabulary().offsets + START)
    return [torch.cat([prompts, tokens[:, :step]], dim=1) for step in range(tokens.shape[1] + 1)]


def prompts_of(length: int, rows: int = 2) -> torch.Tensor:
    return torch.randint(2, START, (rows, length))


def test_it_learns_each_generations_length_from_its_first_call() -> None:
    constraint = IdConstraint(IDS.trie(), START, eos_token_id=EOS)
    for length, rows in ((5, 2), (5, 2), (9, 2), (4, 1), (8, 1), (1, 3), (0, 2)):
        calls = grown(prompts_of(length, rows), IDS.codes[:rows])
        for step, sequence in enumerate(calls):
            allowed = constraint(sequence, scores(rows)).isfinite()
            assert constraint._generations[None].prompt_length == length
            if step < 3:
                assert bool(allowed.gather(1, calls[-1][:, length + step, None]).all())
            else:
                assert allowed.nonzero()[:, 1].tolist() == [EOS] * rows


def test_a_prompt_that_ends_in_an_id_is_a_prompt() -> None:
    history = grown(prompts_of(3), IDS.codes[5:7])[-1]
    constraint = IdConstraint(IDS.trie(), START, eos_token_id=EOS)
    for sequence in grown(history, IDS.codes[:2]):
        constraint(sequence, scores(2))
    assert constraint._generations[None].prompt_length == 6


def test_beams_may_come_and_go() -> None:
    constraint = IdConstraint(IDS.trie(), START, 4)
    prompts = prompts_of(4)
    constraint(prompts, scores(2))
    rows = torch.tensor([0, 0, 0, 1, 1])
    constraint(grown(prompts[rows], IDS.codes[:5])[1], scores(5))
    constraint(grown(prompts[1:], IDS.codes[:1])[2], scores(1))


@pytest.mark.parametrize("said", [0, 1, 3, 5, 6, 100])
@pytest.mark.parametrize("way", ["processor", "function"])
def test_a_wrong_length_is_refused(said: int, way: str) -> None:
    constraint = IdConstraint(IDS.trie(), START, said, EOS)
    prompts = grown(prompts_of(2), IDS.codes[:2])[2]  # the last two of four tokens are codes
    with pytest.raises(ValueError, match=f"prompt_length is {said}, but generation begins after 4"):
        if way == "processor":
            constraint(prompts, scores(2))
        else:
            constraint.allowed(0, prompts[0])


def test_other_prompts_in_the_middle_are_refused() -> None:
    constraint = IdConstraint(IDS.trie(), START, 4)
    constraint(prompts_of(4), scores(2))
    with pytest.raises(ValueError, match="begins after 5 tokens"):
        constraint(grown(prompts_of(4), IDS.codes[:2])[1], scores(2))


def test_a_step_back_is_refused_unless_the_length_is_said() -> None:
    calls = grown(prompts_of(4), IDS.codes[:2])
    said, learnt = (IdConstraint(IDS.trie(), START, length) for length in (4, None))
    for sequence in calls:
        said(sequence, scores(2)), learnt(sequence, scores(2))
    said(calls[2], scores(2))
    with pytest.raises(ValueError, match="after 7 tokens come 6, of the same prompts of 4"):
        learnt(calls[2], scores(2))


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("eos", [EOS, None])
def test_where_no_sequence_has_a_way_on_it_says_so(step: int, eos: int | None) -> None:
    constraint = IdConstraint(IDS.trie(), START, eos_token_id=eos)
    prompts = prompts_of(4)
    for sequence in grown(prompts, IDS.codes[:2])[:step]:
        constraint(sequence, scores(2))
    with pytest.raises(ValueError, match="something else than this constraint chose them"):
        constraint(torch.cat([prompts, torch.full((2, step), PAD)], dim=1), scores(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trie": SemanticIds(np.zeros((0, 3), dtype=int), SIZES).trie()}, "holds no ID"),
        ({"start": -1}, "start must be at least 0"),
        ({"eos_token_id": START + 3}, "lies among the codes, 20 to 37"),
        ({"eos_token_id": [EOS, -2]}, "eos_token_id must be at least 0"),
        ({"prompt_length": -1}, "prompt_length must be at least 0"),
    ],
)
def test_what_can_not_be_is_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IdConstraint(**({"trie": IDS.trie(), "start": START} | options))


def test_several_tokens_may_end_an_id() -> None:
    constraint = IdConstraint(IDS.trie(), START, eos_token_id=[EOS, 3])
    for sequence in grown(prompts_of(4), IDS.codes[:2]):
        masked = constraint(sequence, scores(2))
    assert masked[0].isfinite().nonzero().flatten().tolist() == [EOS, 3]
    with pytest.raises(ValueError, match="eos_token_id is 99, the scores have"):
        late = IdConstraint(IDS.trie(), START, eos_token_id=99)
        for sequence in grown(prompts_of(4), IDS.codes[:2]):
            late(sequence, scores(2))


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", ["t5", "llama", "qwen2"])
@pytest.mark.parametrize("way", ["processor", "function"])
@pytest.mark.parametrize("beams", [1, 5, len(IDS) + 7])
def test_real_models_write_ids_and_decode_reads_items(kind: str, way: str, beams: int) -> None:
    model = generator_of(kind, WIDTH)
    constraint = IdConstraint(IDS.trie(), START, eos_token_id=EOS)
    how: dict[str, Any] = {"prefix_allowed_tokens_fn": constraint.allowed}
    if way == "processor":
        how = {"logits_processor": [constraint]}
    # Padded on the left; then again, other prompts of another length, with the same constraint.
    for length in (6, 4):
        prompts = prompts_of(length, 3)
        prompts[0, :2] = PAD
        out = model.generate(
            prompts, attention_mask=(prompts != PAD).long(), num_beams=beams, do_sample=False,
            num_return_sequences=beams, max_new_tokens=4, return_dict_in_generate=True,
            output_scores=True, **how,
        )  # fmt: skip
        prompt_length = 1 if kind == "t5" else length
        items = IDS.decode(out.sequences, START, prompt_length, beams)
        assert [len(one) for one in items] == [min(beams, len(IDS))] * 3
        assert all(len(set(one)) == len(one) for one in items)
        written = out.sequences[:, prompt_length:]
        assert bool((written[:, 3] == EOS).all())
        if beams > len(IDS):
            # What beam search fills up with: IDs that are there already, at a score of about −1e9
            # over the length, as transformers begins those beams.
            scores_ = out.sequences_scores.view(3, beams)
            assert bool((scores_[:, : len(IDS)] > -1e3).all())
            assert bool((scores_[:, len(IDS) :] < -1e8).all())


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("way", ["processor", "function"])
def test_a_removed_item_is_not_generated_and_not_decoded(way: str) -> None:
    is_live = np.arange(len(IDS)) % 3 > 0
    table = SemanticIds(IDS.codes, SIZES, is_live=is_live)
    constraint = IdConstraint(table.trie(), START, eos_token_id=EOS)
    how: dict[str, Any] = {"prefix_allowed_tokens_fn": constraint.allowed}
    if way == "processor":
        how = {"logits_processor": [constraint]}
    beams = len(IDS)
    out = generator_of("qwen2", WIDTH).generate(
        prompts_of(4), attention_mask=torch.ones(2, 4), num_beams=beams, do_sample=False,
        num_return_sequences=beams, max_new_tokens=4, **how,
    )  # fmt: skip
    live = set(np.flatnonzero(is_live).tolist())
    assert [set(one) for one in table.decode(out, START, 4, beams)] == [live, live]
    everything = torch.from_numpy(IDS.token_ids(START))
    assert {item for one in table.decode(everything, START, 0) for item in one} == live
    none = SemanticIds(IDS.codes, SIZES, is_live=np.zeros(len(IDS), dtype=bool))
    with pytest.raises(ValueError, match="holds no ID"):
        IdConstraint(none.trie(), START)


def test_decode_says_what_is_too_short_or_no_multiple() -> None:
    with pytest.raises(ValueError, match="max_new_tokens must be 3 or more"):
        IDS.decode(torch.zeros(2, 6, dtype=torch.int64), START, 4)
    with pytest.raises(ValueError, match="not a multiple of 3 beams"):
        IDS.decode(torch.zeros(4, 7, dtype=torch.int64), START, 4, beams=3)
    assert IDS.decode(torch.zeros(2, 7, dtype=torch.int64), START, 4) == [[], []]
