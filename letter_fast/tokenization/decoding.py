"""Constrained decoding: a language model that generates items writes only IDs that exist."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from numpy.typing import NDArray
from torch import Tensor

from letter_fast import validation

from .codes import token_id
from .subsets import IdSubsets, between
from .trie import Count, PrefixTrie
from .vocabulary import Vocabulary


@dataclass
class _Generation:
    """Prompts [B, P] as they were first seen, and how long their sequences were last."""

    weights: Tensor
    hashes: Tensor
    last: int

    @classmethod
    def of(cls, prompts: Tensor) -> _Generation:
        """Of the first call. A prompt's hash is Σ weight · token, modulo 2⁶⁴."""
        numbers = torch.Generator().manual_seed(0)
        weights = torch.randint(1 << 62, (prompts.shape[1],), generator=numbers)
        weights = weights.to(prompts.device)
        return cls(weights, (prompts * weights).sum(1), prompts.shape[1])

    @property
    def prompt_length(self) -> int:
        return len(self.weights)

    def grew_into(self, input_ids: Tensor) -> bool:
        """Whether each sequence begins with one of the prompts. Beams come and go between them."""
        hashes = (input_ids[:, : self.prompt_length] * self.weights).sum(1)
        return bool(torch.isin(hashes, self.hashes).all())


class _Position(NamedTuple):
    """The position of one sequence: codes of its ID so far, and the whole IDs of the answer before.

    depth: of the next code; T where an ID has just ended, −1 where the model writes something else.
    """

    depth: int
    codes: list[int]
    written: list[list[int]]


class IdConstraint:
    """Masks next-token scores, for `generate` of Hugging Face transformers and for serving engines.

    It is a LogitsProcessor in all but ancestry (`logits_processor=[constraint]`), and
    `constraint.allowed` is a `prefix_allowed_tokens_fn`. The first is one batch of tensor
    operations a step, of which the host waits for two; the second, for engines that want it, a call
    a beam. `constraint.mask` is for engines whose sequences have different lengths. Nothing is
    imported from transformers.

    The first call of a generation sees the prompts, with nothing behind them: that is how their
    length is known. A call whose sequences didn't grow out of it by a token begins another
    generation. To go on behind what was generated, as in a dialogue, make another constraint.

    With `begin_token_id` an ID begins wherever that token stands, in the prompt's end or in the
    answer, as often as the model likes; between IDs it writes what it likes, but no code. Without,
    the answer is `count` IDs, one behind the other. No answer names an ID twice.

    Args:
        trie: of the table, `ids.trie()`; a constraint holds no copy.
        start: token id of the first code, `AddedTokens.start` or as trained.
        prompt_length: tokens before the ID, if that is to be checked: 1 for an encoder-decoder (the
            start token), otherwise `input_ids.shape[1]`, with prompts padded on the left.
        eos_token_id: the only token, or the only tokens, after the last ID; with `begin_token_id`,
            after each. None leaves what follows alone.
        begin_token_id: the token before each ID.
        count: IDs of an answer (a slate).
        only: of each prompt, codes [M, T] of the IDs that may be generated; None: all of the trie.
        excluded: of each prompt, codes [M, T] of those that may not, as what was seen.

    Raises:
        ValueError: the trie holds no ID or too few, or a number can't be a token's or a length.
    """

    def __init__(
        self,
        trie: PrefixTrie,
        start: int,
        prompt_length: int | None = None,
        eos_token_id: int | Sequence[int] | None = None,
        *,
        begin_token_id: int | None = None,
        count: int = 1,
        only: Sequence[NDArray[Any]] | None = None,
        excluded: Sequence[NDArray[Any]] | None = None,
    ) -> None:
        validation.instance(trie, PrefixTrie, "trie", ": ids.trie() makes it")
        start = token_id(start)
        ends = _several(eos_token_id, "eos_token_id")
        marks = [*ends, *_several(begin_token_id, "begin_token_id")]
        if prompt_length is not None:
            prompt_length = token_id(prompt_length, "prompt_length")
        count = validation.integer(count, "count", 1)
        end = start + sum(trie.sizes)
        if len(trie) == 0:
            raise ValueError(
                "the table holds no ID of a live item, so that there is nothing to generate"
            )
        for name, tokens in (("eos_token_id", ends), ("begin_token_id", marks[len(ends) :])):
            if any(start <= one < end for one in tokens):
                raise ValueError(f"{name} {tokens} lies among the codes, {start} to {end - 1}")
        if count > 1 and begin_token_id is not None:
            raise ValueError(f"with begin_token_id the model decides the count; got {count}")
        self.trie, self.prompt_length, self.eos_token_ids = trie, prompt_length, ends
        self.begin_token_id, self.count = begin_token_id, count
        begins = Vocabulary(trie.sizes, "<{level}_{code}>").offsets + start
        self._begins: list[int] = begins.tolist()
        self._codes_end = end
        self._subtracted = torch.from_numpy(begins)
        self._subsets: IdSubsets | None = None
        if only is not None or excluded is not None or count > 1:
            self._subsets = IdSubsets(trie, only, excluded, count)
        # Of the batch, by None; of single sequences, by their batch_id.
        self._generations: dict[int | None, _Generation] = {}

    def __repr__(self) -> str:
        begin = "" if self.begin_token_id is None else f", begin_token_id={self.begin_token_id}"
        several = "" if self.count == 1 else f", count={self.count}"
        return (
            f"IdConstraint({self.trie!r}, start={self._begins[0]}, "
            f"eos_token_id={self.eos_token_ids}{begin}{several})"
        )

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """input_ids [B, S], scores [B, V] -> [B, V], −inf where no ID goes on so.

        A beam that is already outside (beam search keeps some at −inf if IDs are few) stays there.
        Raises:
            ValueError: the prompts don't have the length that was said, no sequence has a way on,
                the scores have no column for some of the codes, or there are no beams for each of
                the prompts of `only` and `excluded`.
        """
        length = self._prompt_length(input_ids, None)
        if self.begin_token_id is not None:
            # What stands before the prompt's last tokens can't matter.
            cut = max(0, length - len(self.trie.sizes) - 1)
            return self.mask(input_ids[:, cut:].tolist(), scores, length - cut)
        answer = input_ids[:, length:][:, : self.count * len(self.trie.sizes)].long()
        whole = min(answer.shape[1] // len(self.trie.sizes), self.count - 1)
        split = whole * len(self.trie.sizes)
        depth = answer.shape[1] - split
        self._subtracted = self._subtracted.to(answer.device)
        codes = answer[:, split:] - self._subtracted[:depth]
        count = None
        if self._subsets is not None and depth < len(self.trie.sizes):
            rows = torch.arange(len(answer), device=answer.device)
            written = answer[:, :split].reshape(-1, len(self.trie.sizes)) - self._subtracted
            count = self._count(rows, len(answer), rows.repeat_interleave(whole), written)
        masked, ways = self._masked(depth, codes, scores, count)
        self._check_way_on(ways, len(input_ids), input_ids[0])
        return masked

    def mask(
        self,
        sequences: Sequence[Sequence[int]],
        scores: Tensor,
        prompt_lengths: int | Sequence[int] = 0,
        prompts: Sequence[int] | None = None,
    ) -> Tensor:
        """The same for sequences of different lengths, and with no memory of earlier calls.

        scores [B, V] -> [B, V]. sequences: B lists of token ids, of which the first prompt_lengths
        are the prompt's; with `begin_token_id` its last T + 1 tokens are enough, without, none is
        needed. prompts: of each row, which of those of `only` and `excluded` it answers; None: each
        has as many rows as the next, together.
        Raises:
            ValueError: as for a call; or numbers of rows differ.
        """
        rows = len(sequences)
        lengths = [prompt_lengths] * rows if isinstance(prompt_lengths, int) else prompt_lengths
        if not len(scores) == rows == len(lengths) == (rows if prompts is None else len(prompts)):
            raise ValueError(
                f"{rows} sequences, {len(scores)} rows of scores, {len(lengths)} prompt_lengths, "
                f"{'no' if prompts is None else len(prompts)} prompts: their numbers must be one"
            )
        positions = [self._position(list(one), at) for one, at in zip(sequences, lengths)]
        masked, ways = scores.clone(), []
        for depth in sorted({position.depth for position in positions}):
            chosen = [row for row, position in enumerate(positions) if position.depth == depth]
            picked = torch.tensor(chosen, device=scores.device)
            count = self._count_of([positions[row] for row in chosen], picked, rows, prompts)
            if depth < 0 or (depth == len(self.trie.sizes) and not self.eos_token_ids):
                masked[picked] = self._between_ids(scores[picked], count)
                ways.append(torch.ones_like(picked, dtype=torch.bool))
                continue
            codes = torch.tensor([positions[row].codes for row in chosen], device=scores.device)
            codes = codes.reshape(len(chosen), -1).long()
            masked[picked], way = self._masked(depth, codes, scores[picked], count)
            ways.append(way)
        if rows:
            self._check_way_on(torch.cat(ways), rows, sequences[0])
        return masked

    def allowed(self, batch_id: int, input_ids: Tensor) -> list[int]:
        """Tokens that may follow one sequence: transformers' `prefix_allowed_tokens_fn`.

        Needs `eos_token_id`, for after the ID. input_ids [S]
        Raises:
            ValueError: as for a call; or the constraint has a `begin_token_id`, with which every
                token may follow somewhere.
        """
        if self.begin_token_id is not None:
            raise ValueError(
                "with begin_token_id most tokens are free and can't be listed: pass "
                "logits_processor=[constraint]"
            )
        length = self._prompt_length(input_ids[None], batch_id)
        at = self._position(input_ids.tolist(), length)
        if at.depth < len(self.trie.sizes):
            prefix = torch.tensor([at.codes]).reshape(1, -1).long()
            if self._subsets is None:
                codes = self.trie.allowed(prefix)[0].tolist()
            else:
                count = self._count(
                    torch.tensor([batch_id]),
                    None,
                    torch.zeros(len(at.written), dtype=torch.int64),
                    torch.tensor(at.written).reshape(-1, len(self.trie.sizes)).long(),
                )
                codes = self.trie.allowed_tokens(prefix, count)[0].nonzero().flatten().tolist()
            return [self._begins[at.depth] + code for code in codes]
        if not self.eos_token_ids:
            raise ValueError("a list of allowed tokens needs eos_token_id, for after the ID")
        return self.eos_token_ids

    def _position(self, tokens: list[int], prompt_length: int) -> _Position:
        """Of one sequence; no code is outside its level but where something else chose it."""
        levels = len(self.trie.sizes)
        if self.begin_token_id is None:
            answer = tokens[prompt_length:][: self.count * levels]
            split = min(len(answer) // levels, self.count - 1) * levels
            whole = [answer[at : at + levels] for at in range(0, split, levels)]
            return _Position(
                len(answer) - split, self._codes(answer[split:]), [*map(self._codes, whole)]
            )
        begins = [place for place, token in enumerate(tokens) if token == self.begin_token_id]
        last = begins[-1] if begins else -levels - 2
        depth = len(tokens) - last - 1
        written = [
            self._codes(tokens[place + 1 : place + 1 + levels])
            for place in begins
            if prompt_length - levels <= place < len(tokens) - levels
        ]
        inside = depth <= levels
        return _Position(
            depth if inside else -1, self._codes(tokens[last + 1 :]) if inside else [], written
        )

    def _codes(self, tokens: list[int]) -> list[int]:
        return [token - begin for token, begin in zip(tokens, self._begins)]

    def _count(self, rows: Tensor, of: int | None, owner: Tensor, written: Tensor) -> Count:
        """The number of IDs between two ranks that are left to each row.

        rows [R]: places in a batch of `of` sequences, or, where that is None, prompts; written
        [M, T]: codes of IDs that the answers hold; owner [M]: to which of the R rows they belong.
        """
        prompts = rows
        if self._subsets is not None and of is not None:
            prompts = self._subsets.prompt_of(rows, of)
        shift = torch.arange(len(rows), device=rows.device)[:, None] * (len(self.trie) + 1)
        ranks = self.trie.nodes(written)
        taken = torch.unique((shift[owner, 0] + ranks)[ranks >= 0])

        def count(begin: Tensor, end: Tensor) -> Tensor:
            left = end - begin
            if self._subsets is not None:
                left = self._subsets.count(prompts, begin, end)
            return left - between(taken, shift + begin, shift + end)

        return count

    def _count_of(
        self,
        positions: list[_Position],
        picked: Tensor,
        rows: int,
        prompts: Sequence[int] | None,
    ) -> Count | None:
        """`_count` of some rows of a batch; None where every ID is left to them."""
        if self._subsets is None and self.begin_token_id is None:
            return None
        written = [ids for position in positions for ids in position.written]
        owner = [place for place, position in enumerate(positions) for _ in position.written]
        device = picked.device
        if prompts is not None:
            picked = torch.tensor(list(prompts), device=device)[picked]
        return self._count(
            picked,
            rows if prompts is None else None,
            torch.tensor(owner, device=device).long(),
            torch.tensor(written, device=device).reshape(-1, len(self.trie.sizes)).long(),
        )

    def _between_ids(self, scores: Tensor, count: Count | None) -> Tensor:
        """The position before an ID: no code, and no new ID for an answer that has all of them."""
        if self.begin_token_id is None:
            return scores
        masked = scores.clone()
        masked[:, self._begins[0] : self._codes_end] = -torch.inf
        if count is not None:
            every = scores.new_zeros(len(scores), 1, dtype=torch.int64)
            none_left = count(every, every + len(self.trie))[:, 0] <= 0
            masked[none_left, self.begin_token_id] = -torch.inf
        return masked

    def _masked(
        self, depth: int, codes: Tensor, scores: Tensor, count: Count | None
    ) -> tuple[Tensor, Tensor]:
        """Scores of sequences that stand at one depth, and which of them have a way on.

        codes [B, depth], scores [B, V] -> [B, V], [B] bool
        """
        if depth < len(self.trie.sizes):
            begin = self._begins[depth]
            end = begin + self.trie.sizes[depth]
            self._check_columns(f"level {depth + 1} has token ids {begin} to", end - 1, scores)
            allowed = self.trie.allowed_tokens(codes, count)
            masked = torch.full_like(scores, -torch.inf)
            masked[:, begin:end] = scores[:, begin:end].where(allowed, -torch.inf)
            return masked, allowed.any(dim=1)
        ways = self.trie.nodes(codes) >= 0
        if not self.eos_token_ids:
            return scores, ways
        self._check_columns("eos_token_id is", max(self.eos_token_ids), scores)
        masked = torch.full_like(scores, -torch.inf)
        masked[:, self.eos_token_ids] = scores[:, self.eos_token_ids]
        return masked, ways

    def _prompt_length(self, input_ids: Tensor, batch_id: int | None) -> int:
        """Of the generation that this call belongs to."""
        length, said = input_ids.shape[1], self.prompt_length
        seen = self._generations.get(batch_id)
        if seen is not None and length > seen.prompt_length and seen.grew_into(input_ids):
            if said is not None or length - seen.last in (0, 1):
                seen.last = length
                return seen.prompt_length
            if length < seen.last:
                raise ValueError(
                    f"after {seen.last} tokens come {length}, of the same prompts of "
                    f"{seen.prompt_length}: give prompt_length, or make a constraint for each call "
                    "of generate"
                )
        if said is not None and length != said:
            raise ValueError(
                f"prompt_length is {said}, but generation begins after {length} tokens; leave it "
                "out, and the first call says it"
            )
        self._generations[batch_id] = _Generation.of(input_ids)
        return length

    def _check_way_on(self, ways: Tensor, rows: int, first: Tensor | Sequence[int]) -> None:
        if not bool(ways.any()):
            tokens = [int(token) for token in first[-len(self.trie.sizes) :]]
            raise ValueError(
                f"no ID goes on as any of the {rows} sequences does, the first of which ends in "
                f"tokens {tokens}: something else than this constraint chose them"
            )

    def _check_columns(self, what: str, last: int, scores: Tensor) -> None:
        if last >= scores.shape[1]:
            raise ValueError(
                f"{what} {last}, the scores have {scores.shape[1]} columns: "
                "model.resize_token_embeddings(len(tokenizer))"
            )


def _several(tokens: int | Sequence[int] | None, name: str) -> list[int]:
    """No, one or several token ids as a list of them."""
    if tokens is None:
        return []
    if isinstance(tokens, str | bytes | dict) or not isinstance(tokens, Iterable):
        tokens = [cast("int", tokens)]
    return [token_id(one, name) for one in tokens]
