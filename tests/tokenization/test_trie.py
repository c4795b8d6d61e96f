"""The trie allows exactly what continues, whatever asks it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from letter_fast.tokenization import PrefixTrie, SemanticIds


def brute_force(codes: np.ndarray, prefix: np.ndarray) -> list[int]:
    match = (codes[:, : len(prefix)] == prefix).all(axis=1)
    return sorted(set(codes[match, len(prefix)].tolist()))


# The sizes at which codes take another type, and more IDs than int64 has numbers.
@pytest.mark.parametrize(
    "sizes", [[5, 5, 5], [256, 257], [1, 1, 3], [32_768, 32_769, 2], [2**31, 2**31, 2**31]]
)
def test_what_may_follow(sizes: list[int]) -> None:
    random = np.random.default_rng(0)
    few = [sorted({0, size - 1, *random.integers(0, size, 3).tolist()}) for size in sizes]
    codes = np.column_stack([random.choice(some, 60) for some in few])
    trie = PrefixTrie(codes, sizes)
    assert len(trie) == len(np.unique(codes, axis=0))
    for depth in range(len(sizes)):
        known = random.choice(codes, 30)[:, :depth]
        foreign = random.integers(-1, 9, (20, depth))
        prefixes = np.concatenate([known, foreign])
        lists = trie.allowed(prefixes)
        assert [one.tolist() for one in lists] == [brute_force(codes, one) for one in prefixes]
        if sizes[depth] > 100_000:
            continue  # a mask for each code is no use there
        mask = trie.allowed_tokens(prefixes)
        assert mask.shape == (50, sizes[depth])
        for row, allowed in zip(mask, lists):
            np.testing.assert_array_equal(np.flatnonzero(row), allowed)
        tensor = trie.allowed_tokens(torch.from_numpy(prefixes))
        np.testing.assert_array_equal(tensor.numpy(), mask)
    with pytest.raises(ValueError, match=f"no longer than {len(sizes) - 1} codes"):
        trie.allowed(codes)
    with pytest.raises(ValueError, match=r"must be \[B, p\]"):
        trie.allowed_tokens(torch.zeros(3, dtype=torch.int64))


def test_a_leaf_is_the_rank_of_its_id() -> None:
    codes = np.random.default_rng(1).integers(0, 4, (30, 3))
    distinct = np.unique(codes, axis=0)
    trie = SemanticIds(codes, [4, 4, 4]).trie()
    np.testing.assert_array_equal(trie.nodes(distinct), np.arange(len(distinct)))
    assert trie.nodes([[0, 0, 9], [-1, 0, 0]]).tolist() == [-1, -1]
    assert trie.nodes(np.zeros((2, 0), dtype=np.int64)).tolist() == [0, 0]


def test_no_ids_allow_nothing() -> None:
    trie = PrefixTrie(np.zeros((0, 2), dtype=np.int64), [3, 4])
    assert len(trie) == 0
    assert not trie.allowed_tokens(np.zeros((2, 0), dtype=np.int64)).any()
    assert trie.allowed_tokens([[1]]).tolist() == [[False] * 4]
    assert [one.tolist() for one in trie.allowed([[1]])] == [[]]
    assert trie.nodes([[1, 2]]).tolist() == [-1]


def test_memory_is_a_number_a_prefix() -> None:
    codes = np.stack(np.meshgrid(np.arange(3), np.arange(300), [0, 1]), axis=-1).reshape(-1, 3)
    assert PrefixTrie(codes, [3, 300, 2]).nbytes == 4 * (3 + 900 + 1800)
    assert PrefixTrie(codes, [3, 300, 2**31 // 900]).nbytes == 4 * (3 + 900 + 1800)
    assert PrefixTrie(codes, [3, 300, 2**31 // 900 + 1]).nbytes == 4 * (3 + 900) + 8 * 1800


def test_compressed_rows_hold_the_same_tree() -> None:
    codes = np.random.default_rng(2).integers(0, [3, 5, 4], (20, 3))
    trie = PrefixTrie(codes, [3, 5, 4])
    paths: list[list[int]] = [[]]
    for depth in range(3):
        bounds, code = trie.rows(depth)
        assert len(bounds) == len(paths) + 1
        paths = [
            [*path, int(one)]
            for path, begin, end in zip(paths, bounds, bounds[1:])
            for one in code[begin:end]
        ]
    assert paths == np.unique(codes, axis=0).tolist()
