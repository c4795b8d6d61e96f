"""Beam search over the trie of all IDs, a batch of histories at a time.

It writes what `generate` of transformers writes with `IdConstraint` (a test compares them), and is
several times faster for IDs: a user's cross-attention keys are made once, not once a beam, and the
beams are a few tensors.
"""

from __future__ import annotations

from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import Tensor

from letter_fast.tokenization import PrefixTrie

from .generator import FIRST


class Beams(NamedTuple):
    """The best IDs of each history, best first.

    codes [B, W, L]; scores [B, W]: log-probabilities, −inf where there are fewer than W IDs.
    """

    codes: Tensor
    scores: Tensor


@torch.no_grad()
def search(network: Any, history: Tensor, trie: PrefixTrie, beams: int) -> Beams:
    """history [B, S] tokens, 0 is padding -> the `beams` best IDs of each."""
    from transformers.cache_utils import DynamicCache, EncoderDecoderCache

    # transformers renamed it
    cached = "cache" if "cache" in signature(network.forward).parameters else "past_key_values"
    cache: Any = EncoderDecoderCache(DynamicCache(), DynamicCache())
    mask = history.ne(0).long()
    encoded = network.encoder(input_ids=history, attention_mask=mask)[0]
    count = len(history)
    word = torch.zeros(count, 1, dtype=torch.long)
    codes = torch.zeros(count, 1, 0, dtype=torch.long)
    scores = torch.zeros(count, 1)
    begin = FIRST
    for level, size in enumerate(trie.sizes):
        logits = network(
            encoder_outputs=(encoded,),
            attention_mask=mask,
            decoder_input_ids=word,
            use_cache=True,
            **{cached: cache},
        ).logits[:, -1]
        following = logits.log_softmax(dim=-1)[:, begin : begin + size]
        allowed = trie.allowed_tokens(codes.flatten(0, 1))
        following = following.masked_fill(~allowed, -torch.inf)
        total = (scores[:, :, None] + following.view(count, -1, size)).flatten(1)
        scores, place = total.topk(min(beams, total.shape[1]), dim=1)
        parent, code = place // size, place % size
        codes = torch.cat(
            [codes.gather(1, parent[..., None].expand(-1, -1, level)), code[..., None]], dim=2
        )
        word = (code + begin).view(-1, 1)
        begin += size
        if level + 1 < len(trie.sizes):
            width = scores.shape[1]
            before = len(encoded) // count
            if before < width:  # as the first level has it: one row a user
                rows = torch.arange(count).repeat_interleave(width) * before
                encoded, mask = encoded[rows], mask[rows]
                cache.cross_attention_cache.reorder_cache(rows)
            cache.self_attention_cache.reorder_cache(
                (parent + torch.arange(count)[:, None] * before).flatten()
            )
    return Beams(codes, scores)


def ranks(found: Beams, target: Tensor) -> Tensor:
    """The place of each target's ID among the beams, from 0; W where it is not there.

    target [B, L] codes -> [B]
    """
    hit = (found.codes == target[:, None]).all(dim=2) & found.scores.isfinite()
    width = hit.shape[1]
    return torch.where(hit.any(dim=1), hit.int().argmax(dim=1), width)
