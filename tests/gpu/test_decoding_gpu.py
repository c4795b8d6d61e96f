"""The trie answers on a CUDA device as it does on the CPU, without the host waiting."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from letter_fast.tokenization import IdConstraint, SemanticIds

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

SIZES = [256, 300, 8192]


def test_masks_are_those_of_the_cpu() -> None:
    codes = np.random.default_rng(0).integers(0, SIZES, (100_000, 3))
    ids = SemanticIds(codes, SIZES)
    trie = ids.trie()
    for depth in range(3):
        prefixes = torch.from_numpy(codes[:500, :depth].copy())
        there = prefixes.cuda()
        expected = trie.allowed_tokens(prefixes)
        trie.allowed_tokens(there)  # copies the trie
        with torch.cuda.device(there.device):
            torch.cuda.set_sync_debug_mode("error")
            try:
                mask = trie.allowed_tokens(there)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        assert mask.device == there.device
        torch.testing.assert_close(mask.cpu(), expected)
    whole = torch.from_numpy(codes[:500]).cuda()
    np.testing.assert_array_equal(trie.nodes(whole).cpu().numpy(), trie.nodes(codes[:500]))
    sequences = torch.from_numpy(ids.token_ids(10)[:64, :2].copy()).cuda()
    scores = torch.randn(64, 10 + sum(SIZES), device="cuda")
    masked = IdConstraint(trie, 10, 0)(sequences, scores)
    expected = IdConstraint(trie, 10, 0)(sequences.cpu(), scores.cpu())
    torch.testing.assert_close(masked.cpu(), expected)
