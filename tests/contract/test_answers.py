"""Answers of several IDs, IDs inside of text, and items that are not for every prompt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from letter_fast.tokenization import IdConstraint, SemanticIds
from tests.support.tiny_generators import EOS, PAD, generator_of

SIZES = [8, 4, 6]
IDS = SemanticIds(np.unique(np.random.default_rng(0).integers(0, SIZES, (40, 3)), axis=0), SIZES)
START, BEGIN, LEVELS = 20, 2, len(SIZES)
WIDTH = START + sum(SIZES) + 3
ITEMS = list(range(len(IDS)))


def prompts_of(length: int, rows: int = 2) -> torch.Tensor:
    """Tokens that are neither marks nor codes."""
    return torch.randint(3, START, (rows, length))


def generate(model: Any, constraint: Any, prompts: torch.Tensor, **how: Any) -> Any:
    """Answers, with the constraint as a processor. -> [B · sequences, S]"""
    options = dict(do_sample=False, max_new_tokens=LEVELS + 1) | how
    mask = (prompts != PAD).long()
    return model.generate(prompts, attention_mask=mask, logits_processor=[constraint], **options)


def own_way(
    constraint: IdConstraint, prompts: list[list[int]], steps: int, way: str, seed: int = 0
) -> list[list[int]]:
    """Draws from the masked scores, token by token. way: how the constraint is asked."""
    chance = torch.Generator().manual_seed(seed)
    rows = [list(prompt) for prompt in prompts]
    for _ in range(steps):
        scores = torch.randn(len(rows), WIDTH, generator=chance)
        if way == "call":
            masked = constraint(torch.tensor(rows), scores)
        elif way == "mask":
            masked = constraint.mask(rows, scores, [len(prompt) for prompt in prompts])
        else:
            masked = torch.full_like(scores, -torch.inf)
            for row, tokens in enumerate(rows):
                allowed = constraint.allowed(row, torch.tensor(tokens))
                masked[row, allowed] = scores[row, allowed]
        drawn = torch.multinomial(masked.softmax(-1), 1, generator=chance).flatten().tolist()
        rows = [[*row, token] for row, token in zip(rows, drawn)]
    return [row[len(prompt) :] for row, prompt in zip(rows, prompts)]


# Some items only


@pytest.mark.parametrize("way", ["call", "mask", "allowed"])
def test_each_prompt_has_items_of_its_own(way: str) -> None:
    only = [ITEMS[:9], ITEMS[5:], ITEMS]
    excluded = [ITEMS[2:5], ITEMS[7:30], []]
    for sets, expected in (
        ({"only": only}, only),
        ({"excluded": excluded}, [sorted({*ITEMS} - {*one}) for one in excluded]),
        (
            {"only": only, "excluded": excluded},
            [sorted({*one} - {*other}) for one, other in zip(only, excluded)],
        ),
    ):
        constraint = IDS.constraint(START, EOS, **sets)
        reached: list[set[int]] = [set(), set(), set()]
        prompts = prompts_of(4, 3).tolist()
        for seed in range(40):
            constraint = IDS.constraint(START, EOS, **sets) if way == "call" else constraint
            answers = own_way(constraint, prompts, LEVELS + 1, way, seed)
            for found, answer in zip(reached, answers):
                assert answer[LEVELS:] == [EOS]
                found.update(IDS.decode([answer], START, 0)[0])
        for found, allowed in zip(reached, expected):
            assert found <= set(allowed)
            assert len(found) > 0.4 * len(allowed)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", ["t5", "qwen2"])
def test_beams_reach_all_items_of_a_prompt_and_no_other(kind: str) -> None:
    model, prompts = generator_of(kind, WIDTH), prompts_of(5, 3)
    length = 1 if kind == "t5" else 5
    seen = [ITEMS[:20], ITEMS[3:25], ITEMS[10:]]
    for sets in ({"excluded": seen}, {"only": [sorted({*ITEMS} - {*one}) for one in seen]}):
        constraint = IDS.constraint(START, EOS, **sets)
        beams = len(ITEMS)
        out = generate(model, constraint, prompts, num_beams=beams, num_return_sequences=beams)
        items = IDS.decode(out, START, length, beams)
        assert [set(one) for one in items] == [{*ITEMS} - {*one} for one in seen]
        for row, prompt in enumerate(prompts):  # and a prompt alone
            alone = IDS.constraint(START, EOS, **{k: v[row : row + 1] for k, v in sets.items()})
            how = dict(num_beams=beams, num_return_sequences=beams)
            out = generate(model, alone, prompt[None], **how)
            assert set(IDS.decode(out, START, length, beams)[0]) == set(items[row])


def test_stock_removed_and_shared_ids() -> None:
    codes = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 1], [1, 0, 0], [1, 1, 1]])
    is_live = np.array([True, True, True, False, True])
    table = SemanticIds(codes, SIZES, list("abcde"), is_live=is_live)

    def reached(**sets: Any) -> set[str]:
        constraint = table.constraint(START, EOS, **sets)
        found: set[str] = set()
        for seed in range(40):
            answer = own_way(constraint, [[3]], LEVELS, "mask", seed)[0]
            found.update(table.decode([answer], START, 0)[0])
        return found

    assert reached() == set("abce")
    assert reached(items=["a", "d", "e"]) == set("ae")
    assert reached(only=[["d", "e"]]) == {"e"}
    assert reached(excluded=[["b", "absent"]]) == set("ae")  # c shares b's ID
    assert reached(items=["a", "e"], excluded=[["a"]]) == {"e"}
    with pytest.raises(ValueError, match="prompt 0 may be answered with 0 IDs"):
        table.constraint(START, EOS, only=[["d"]])
    with pytest.raises(ValueError, match="lacks item 1 of `only`"):
        table.constraint(START, EOS, only=[["a", "absent"]])


def test_sets_and_prompts_must_fit() -> None:
    with pytest.raises(ValueError, match="only is of 2 prompts, excluded of 3"):
        IDS.constraint(START, only=[ITEMS] * 2, excluded=[[]] * 3)
    constraint = IDS.constraint(START, excluded=[[], [1]])
    with pytest.raises(ValueError, match="of 2 prompts, but there are 3 sequences"):
        constraint(prompts_of(4, 3), torch.randn(3, WIDTH))
    with pytest.raises(ValueError, match="their numbers must be one"):
        constraint.mask([[3]], torch.randn(2, WIDTH))


def test_rows_that_come_and_go_say_which_prompt_they_answer() -> None:
    constraint = IDS.constraint(START, EOS, only=[ITEMS[:1], ITEMS[1:2]])
    first = torch.from_numpy(IDS.token_ids(START)[:2])
    for prompts in ([1, 0, 1], [0], [1, 1]):
        rows = [[3, 4][: place + 1] for place in range(len(prompts) - 1)] + [[3, 4]]
        masked = constraint.mask(rows, torch.randn(len(rows), WIDTH), [*map(len, rows)], prompts)
        assert masked.isfinite().nonzero()[:, 1].tolist() == first[prompts, 0].tolist()


# Several IDs


@pytest.mark.parametrize("way", ["call", "mask", "allowed"])
@pytest.mark.parametrize("count", [2, 5])
def test_a_slate_holds_that_many_different_items(way: str, count: int) -> None:
    for seed in range(20):
        constraint = IDS.constraint(START, EOS, count=count, excluded=[ITEMS[8:], ITEMS[:-6]])
        steps = count * LEVELS + 2
        for answer, left in zip(
            own_way(constraint, prompts_of(3).tolist(), steps, way, seed), (ITEMS[:8], ITEMS[-6:])
        ):
            assert answer[count * LEVELS :] == [EOS, EOS]
            items = IDS.items_in([answer], START)[0]
            assert len(set(items)) == len(items) == count
            assert set(items) <= set(left)


def test_a_slate_may_take_every_item_but_not_more() -> None:
    constraint = IDS.constraint(START, EOS, count=4, only=[ITEMS[10:14]])
    answer = own_way(constraint, [[3, 4]], 4 * LEVELS, "call")[0]
    assert sorted(IDS.items_in([answer], START)[0]) == ITEMS[10:14]
    with pytest.raises(ValueError, match="prompt 0 may be answered with 4 IDs, at least 5"):
        IDS.constraint(START, EOS, count=5, only=[ITEMS[10:14]])
    with pytest.raises(ValueError, match=f"at least {len(IDS) + 1} are needed"):
        IDS.constraint(START, EOS, count=len(IDS) + 1)
    for count in (0, -1):
        with pytest.raises(ValueError, match="count must be at least 1"):
            IDS.constraint(START, EOS, count=count)
    with pytest.raises(ValueError, match="with begin_token_id the model decides"):
        IDS.constraint(START, EOS, count=2, begin_token_id=BEGIN)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", ["t5", "qwen2"])
def test_a_model_writes_slates(kind: str) -> None:
    model, prompts = generator_of(kind, WIDTH), prompts_of(5, 2)
    constraint = IDS.constraint(START, EOS, count=3, excluded=[ITEMS[:30], ITEMS[5:]])
    out = generate(
        model, constraint, prompts, max_new_tokens=3 * LEVELS + 1, num_beams=4,
        num_return_sequences=2,
    )  # fmt: skip
    items = IDS.items_in(out, START, 1 if kind == "t5" else 5)
    assert [len(set(one)) for one in items] == [3] * 4
    for place, one in enumerate(items):
        assert set(one) <= set(ITEMS[30:] if place < 2 else ITEMS[:5])


# IDs inside of text


@pytest.mark.parametrize("way", ["call", "mask"])
def test_an_id_begins_at_its_token_and_nowhere_else(way: str) -> None:
    written = 0
    for seed in range(6):
        constraint = IDS.constraint(START, EOS, begin_token_id=BEGIN)
        prompts = [[3, 4, 5], [3, 4, BEGIN], [4, BEGIN, int(IDS.token_ids(START)[7, 0])]]
        for prompt, answer in zip(prompts, own_way(constraint, prompts, 60, way, seed)):
            tokens = prompt[1:] + answer
            starts = [place for place, token in enumerate(tokens) if token == BEGIN]
            inside = {place + step for place in starts for step in range(1, LEVELS + 1)}
            for place, token in enumerate(tokens):
                assert (START <= token < START + sum(SIZES)) == (place in inside)
            whole = [place for place in starts if place + LEVELS < len(tokens)]
            names = [tokens[place + 1 : place + 1 + LEVELS] for place in whole]
            codes = IDS.vocabulary().codes(np.array(names).reshape(-1, LEVELS), START)
            rows = IDS.rows_of_codes(codes)
            assert (rows >= 0).all()
            assert len(set(rows.tolist())) == len(rows)
            assert IDS.items_in([tokens], START)[0] == rows.tolist()
            for place in whole:
                assert tokens[place + LEVELS + 1 : place + LEVELS + 2] in ([EOS], [])
            written += len(whole)
    assert written > 18


def test_an_answer_that_has_every_item_begins_no_other() -> None:
    constraint = IDS.constraint(START, begin_token_id=BEGIN, only=[ITEMS[:2]])
    rows = [[BEGIN]]
    for _ in range(2):
        for _ in range(LEVELS):
            masked = constraint.mask(rows, torch.randn(1, WIDTH), 1)
            rows[0].append(int(masked.argmax()))
        free = constraint.mask(rows, torch.randn(1, WIDTH), 1).isfinite()[0]
        assert not bool(free[START : START + sum(SIZES)].any())
        assert bool(free[BEGIN]) == (len(rows[0]) < 2 * LEVELS)
        rows[0].append(BEGIN)
    assert sorted(IDS.items_in(rows, START)[0]) == ITEMS[:2]


def test_without_a_processor_a_begin_token_can_not_be_listed() -> None:
    constraint = IDS.constraint(START, EOS, begin_token_id=BEGIN)
    with pytest.raises(ValueError, match=r"logits_processor=\[constraint\]"):
        constraint.allowed(0, torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="begin_token_id \\[20\\] lies among the codes"):
        IDS.constraint(START, EOS, begin_token_id=START)


class BeginsAfter:
    """A model's habit: no ID and no end before so many tokens, and then an ID."""

    def __init__(self, length: int, constraint: IdConstraint) -> None:
        self.length, self.constraint = length, constraint

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.clone()
        if input_ids.shape[1] <= self.length:
            scores[:, [EOS, BEGIN]] = -torch.inf
        if input_ids.shape[1] == self.length:
            scores[:, BEGIN] = 1e4
        return self.constraint(input_ids, scores)


@pytest.mark.filterwarnings("default")
def test_a_decoder_only_model_thinks_first() -> None:
    """Prompts of any length in one batch, free text, then an ID; beams and greedy."""
    model, prompts = generator_of("qwen2", WIDTH), prompts_of(6, 3)
    prompts[prompts == BEGIN] = 3
    prompts[0, :2] = PAD
    for beams in (1, 4):
        constraint = IDS.constraint(START, EOS, begin_token_id=BEGIN, excluded=[ITEMS[:30]] * 3)
        out = generate(
            model, BeginsAfter(10, constraint), prompts, num_beams=beams,
            num_return_sequences=beams, max_new_tokens=4 + 1 + LEVELS + 1,
        )  # fmt: skip
        items = IDS.items_in(out, START, 6)
        assert [len(one) for one in items] == [1] * (3 * beams)
        assert {item for one in items for item in one} <= set(ITEMS[30:])
        assert bool((out[:, -1] == EOS).all())


def test_items_in_reads_nothing_else() -> None:
    names = IDS.token_ids(START)
    rows = [
        [5, *names[3], 4, *names[1], names[2][0]],
        [names[0][1], names[0][2], *names[9]],
        [],
        [*names[0][::-1]],
    ]
    assert IDS.items_in(rows, START) == [[3, 1], [9], [], []]
    assert IDS.items_in([rows[0]], START, prompt_length=2) == [[1]]
    removed = SemanticIds(IDS.codes, SIZES, is_live=np.arange(len(IDS)) != 3)
    assert removed.items_in(rows, START) == [[1], [9], [], []]


def test_they_say_what_they_are() -> None:
    assert repr(IDS.trie()) == f"PrefixTrie({len(IDS)} IDs, sizes={SIZES})"
    text = repr(IDS.constraint(START, EOS, begin_token_id=BEGIN))
    assert text == (
        f"IdConstraint(PrefixTrie({len(IDS)} IDs, sizes={SIZES}), start=20, eos_token_id=[1], "
        "begin_token_id=2)"
    )
