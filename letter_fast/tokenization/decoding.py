"""Constrained decoding: a language model that generates items writes only IDs that exist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .trie import PrefixTrie
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


class IdConstraint:
    """Masks next-token scores, for `generate` of Hugging Face transformers.

    It is a LogitsProcessor in all but ancestry (`logits_processor=[constraint]`), and
    `constraint.allowed` is a `prefix_allowed_tokens_fn`. The first is one batch of tensor
    operations a step, of which the host waits for two; the second, for engines that want it, a call
    a beam. Nothing is imported from transformers.

    The first call of a generation sees the prompts, with nothing behind them: that is how their
    length is known. A call whose sequences didn't grow out of it by a token begins another
    generation. To go on behind what was generated, as in a dialogue, make another constraint.

    Args:
        trie: of the table, `ids.trie()`; a constraint holds no copy.
        start: token id of the first code, `AddedTokens.start` or as trained.
        prompt_length: tokens before the ID, if that is to be checked: 1 for an encoder-decoder (the
            start token), otherwise `input_ids.shape[1]`, with prompts padded on the left.
        eos_token_id: the only token, or the only tokens, after a whole ID; None leaves what follows
            alone.

    Raises:
        ValueError: the trie holds no ID, or a number can't be a token's or a length.
    """

    def __init__(
        self,
        trie: PrefixTrie,
        start: int,
        prompt_length: int | None = None,
        eos_token_id: int | Sequence[int] | None = None,
    ) -> None:
        ends = [eos_token_id] if isinstance(eos_token_id, int) else list(eos_token_id or [])
        end = start + sum(trie.sizes)
        if len(trie) == 0:
            raise ValueError(
                "the table holds no ID of a live item, so that there is nothing to generate"
            )
        if start < 0 or any(one < 0 for one in ends):
            raise ValueError(f"token ids can't be negative, got start {start}, eos_token_id {ends}")
        if any(start <= one < end for one in ends):
            raise ValueError(f"eos_token_id {ends} lies among the codes, {start} to {end - 1}")
        if prompt_length is not None and prompt_length < 0:
            raise ValueError(f"prompt_length can't be negative, got {prompt_length}")
        self.trie, self.prompt_length, self.eos_token_ids = trie, prompt_length, ends
        begins = Vocabulary(trie.sizes, "<{level}_{code}>").offsets + start
        self._begins: list[int] = begins.tolist()
        self._subtracted = torch.from_numpy(begins)
        # Of the batch, by None; of single sequences, by their batch_id.
        self._generations: dict[int | None, _Generation] = {}

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """input_ids [B, S], scores [B, V] -> [B, V], −inf where no ID goes on so.

        A beam that is already outside (beam search keeps some at −inf if IDs are few) stays there.
        Raises:
            ValueError: the prompts don't have the length that was said, no sequence has a way on,
                or the scores have no column for some of the codes.
        """
        prefix = self._codes(input_ids)
        depth = prefix.shape[1]
        if depth < len(self.trie.sizes):
            begin = self._begins[depth]
            end = begin + self.trie.sizes[depth]
            self._check_columns(f"level {depth + 1} has token ids {begin} to", end - 1, scores)
            allowed = self.trie.allowed_tokens(prefix)
            self._check_way_on(allowed, input_ids)
            masked = torch.full_like(scores, -torch.inf)
            masked[:, begin:end] = scores[:, begin:end].where(allowed, -torch.inf)
            return masked
        self._check_way_on(self.trie.nodes(prefix) >= 0, input_ids)
        if not self.eos_token_ids:
            return scores
        self._check_columns("eos_token_id is", max(self.eos_token_ids), scores)
        masked = torch.full_like(scores, -torch.inf)
        masked[:, self.eos_token_ids] = scores[:, self.eos_token_ids]
        return masked

    def allowed(self, batch_id: int, input_ids: Tensor) -> list[int]:
        """Tokens that may follow one sequence: transformers' `prefix_allowed_tokens_fn`.

        Needs `eos_token_id`, for after the ID. input_ids [S]
        """
        prefix = self._codes(input_ids[None], batch_id)
        depth = prefix.shape[1]
        if depth < len(self.trie.sizes):
            return [self._begins[depth] + code for code in self.trie.allowed(prefix)[0].tolist()]
        if not self.eos_token_ids:
            raise ValueError("a list of allowed tokens needs eos_token_id, for after the ID")
        return self.eos_token_ids

    def _codes(self, input_ids: Tensor, batch_id: int | None = None) -> Tensor:
        """The codes so far of each row. [B, S] -> [B, p ≤ T]"""
        length = self._prompt_length(input_ids, batch_id)
        generated = input_ids[:, length:][:, : len(self.trie.sizes)].long()
        self._subtracted = self._subtracted.to(generated.device)
        return generated - self._subtracted[: generated.shape[1]]

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

    def _check_way_on(self, ways: Tensor, input_ids: Tensor) -> None:
        if not bool(ways.any()):
            raise ValueError(
                f"no ID goes on as any of the {len(input_ids)} sequences does, the first of which "
                f"ends in tokens {input_ids[0, -len(self.trie.sizes) :].tolist()}: something else "
                "than this constraint chose them"
            )

    def _check_columns(self, what: str, last: int, scores: Tensor) -> None:
        if last >= scores.shape[1]:
            raise ValueError(
                f"{what} {last}, the scores have {scores.shape[1]} columns: "
                "model.resize_token_embeddings(len(tokenizer))"
            )
