"""Constrained decoding: a language model that generates items writes only IDs that exist."""

from __future__ import annotations

import torch
from torch import Tensor

from .trie import PrefixTrie
from .vocabulary import Vocabulary


class IdConstraint:
    """Masks next-token scores, for `generate` of Hugging Face transformers.

    It is a LogitsProcessor in all but ancestry (`logits_processor=[constraint]`), and
    `constraint.allowed` is a `prefix_allowed_tokens_fn`. The first is one batch of tensor
    operations a step; the second, for engines that want it, a call a beam. Nothing is imported
    from transformers.

    Args:
        trie: of the table, `ids.trie()`.
        start: token id of the first code, `AddedTokens.start` or as trained.
        prompt_length: tokens before the ID: 1 for an encoder-decoder (the start token), otherwise
            `input_ids.shape[1]`, with prompts padded on the left.
        eos_token_id: the only token after a whole ID; None leaves what follows alone.
    """

    def __init__(
        self, trie: PrefixTrie, start: int, prompt_length: int, eos_token_id: int | None = None
    ) -> None:
        self.trie, self.prompt_length, self.eos_token_id = trie, prompt_length, eos_token_id
        begins = Vocabulary(trie.sizes, "{level}_{code}").offsets + start
        self._begins: list[int] = begins.tolist()
        self._subtracted = torch.from_numpy(begins)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """input_ids [B, S], scores [B, V] -> [B, V], −inf where no ID goes on so.

        A beam that is already outside (beam search keeps some at −inf if IDs are few) stays there.
        Raises:
            ValueError: the scores have no column for some of the codes.
        """
        prefix = self._codes(input_ids)
        depth = prefix.shape[1]
        if depth < len(self.trie.sizes):
            begin = self._begins[depth]
            end = begin + self.trie.sizes[depth]
            if end > scores.shape[1]:
                raise ValueError(
                    f"level {depth + 1} has token ids {begin} to {end - 1}, the scores "
                    f"{scores.shape[1]} columns: model.resize_token_embeddings(len(tokenizer))"
                )
            masked = torch.full_like(scores, -torch.inf)
            allowed = self.trie.allowed_tokens(prefix)
            masked[:, begin:end] = scores[:, begin:end].where(allowed, -torch.inf)
            return masked
        if self.eos_token_id is None:
            return scores
        masked = torch.full_like(scores, -torch.inf)
        masked[:, self.eos_token_id] = scores[:, self.eos_token_id]
        return masked

    def allowed(self, batch_id: int, input_ids: Tensor) -> list[int]:
        """Tokens that may follow one sequence: transformers' `prefix_allowed_tokens_fn`.

        Needs `eos_token_id`, for after the ID. input_ids [S]
        """
        prefix = self._codes(input_ids[None])
        depth = prefix.shape[1]
        if depth < len(self.trie.sizes):
            return [self._begins[depth] + code for code in self.trie.allowed(prefix)[0].tolist()]
        if self.eos_token_id is None:
            raise ValueError("a list of allowed tokens needs eos_token_id, for after the ID")
        return [self.eos_token_id]

    def _codes(self, input_ids: Tensor) -> Tensor:
        """The codes so far of each row. [B, S] -> [B, p ≤ T]"""
        generated = input_ids[:, self.prompt_length :][:, : len(self.trie.sizes)].long()
        self._subtracted = self._subtracted.to(generated.device)
        return generated - self._subtracted[: generated.shape[1]]
