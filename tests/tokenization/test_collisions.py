"""What each policy promises, on random and on adversarial groups."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from letter_fast.tokenization import resolve


def encode(latents: torch.Tensor, books: list[torch.Tensor]) -> np.ndarray:
    return np.array(oracle.residual_search(latents, books)[0], dtype=np.int64)


def problem(rows: int, sizes: list[int], seed: int) -> tuple[np.ndarray, torch.Tensor, list]:
    latents = oracle.clustered(rows, 3, 3, seed)
    books = [0.6**level * oracle.clustered(k, 3, 3, seed + k) for level, k in enumerate(sizes)]
    return encode(latents, books), latents, books


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(0, 10_000), st.sampled_from([[2, 3, 7], [4, 10], [1, 40]]))
def test_optimal_is_always_unique_and_keeps_what_need_not_move(
    rows: int, seed: int, sizes: list[int]
) -> None:
    codes, latents, books = problem(rows, sizes, seed)
    result = resolve(codes, latents, books, "optimal")
    assert len(np.unique(result.codes, axis=0)) == rows
    assert result.report.after.collision_rate == 0.0
    assert result.report.added_distortion >= -1e-9
    # A prefix without a collision is left alone.
    for prefix in np.unique(codes[:, :-1], axis=0):
        rows_of = np.flatnonzero((codes[:, :-1] == prefix).all(axis=1))
        group = codes[rows_of]
        if len(np.unique(group, axis=0)) == len(group):
            np.testing.assert_array_equal(result.codes[rows_of], group)


@pytest.mark.parametrize("seed", range(8))
def test_optimal_equals_brute_force_within_a_prefix(seed: int) -> None:
    latents = oracle.clustered(5, 3, 1, seed)
    books = [torch.zeros(1, 3), oracle.clustered(6, 3, 2, seed + 50)]
    codes = encode(latents, books)
    result = resolve(codes, latents, books, "optimal")
    cost = (latents[:, None].double() - books[1][None].double()).square().sum(-1).numpy()
    if len(np.unique(codes, axis=0)) == 5:
        np.testing.assert_array_equal(result.codes, codes)
        return
    best = min(sum(cost[i, k] for i, k in enumerate(p)) for p in permutations(range(6), 5))
    assert sum(cost[i, k] for i, k in enumerate(result.codes[:, 1])) == pytest.approx(best)


@pytest.mark.parametrize(
    ("rows", "sizes"), [(8, [2, 2, 2]), (50, [3, 4, 5]), (300, [256, 4]), (64, [2] * 6)]
)
def test_all_rows_equal_still_get_unique_ids(rows: int, sizes: list[int]) -> None:
    latents = torch.ones(rows, 2)
    books = [oracle.clustered(size, 2, 2, seed) for seed, size in enumerate(sizes)]
    result = resolve(encode(latents, books), latents, books, "optimal")
    assert len(np.unique(result.codes, axis=0)) == rows
    assert bool((result.codes < np.array(sizes)).all())


def test_optimal_does_not_depend_on_row_order() -> None:
    codes, latents, books = problem(60, [3, 30], 5)
    latents[7], codes[7] = latents[3], codes[3]  # equal items are told apart by their rank
    order = np.random.default_rng(0).permutation(60)
    straight = resolve(codes, latents, books, "optimal", order=np.arange(60))
    shuffled = resolve(codes[order], latents[order], books, "optimal", order=order)
    np.testing.assert_array_equal(shuffled.codes, straight.codes[order])


def test_more_items_than_ids_is_refused() -> None:
    latents = torch.ones(7, 2)
    books = [torch.zeros(2, 2), torch.zeros(3, 2)]
    with pytest.raises(ValueError, match=r"7 items can't have unique IDs.*only 6"):
        resolve(np.zeros((7, 2), dtype=np.int64), latents, books, "optimal")


def test_fixed_rows_and_reserved_ids_stay() -> None:
    codes, latents, books = problem(30, [2, 20], 3)
    first = resolve(codes[:20], latents[:20], books, "optimal").codes
    mixed = np.concatenate([first, codes[20:]])
    fixed = np.arange(30) < 20
    reserved = np.array([[0, 0]]) if not (first == [0, 0]).all(axis=1).any() else first[:0]
    result = resolve(mixed, latents, books, "optimal", fixed=fixed, reserved=reserved)
    np.testing.assert_array_equal(result.codes[:20], first)
    together = np.concatenate([result.codes, reserved])
    assert len(np.unique(together, axis=0)) == len(together)
    with pytest.raises(ValueError, match="collide with each other"):
        resolve(np.zeros((2, 2), dtype=np.int64), latents[:2], books, fixed=np.ones(2, dtype=bool))


def test_suffix_counts_within_each_group() -> None:
    codes = np.array([[0, 1], [1, 1], [0, 1], [0, 1]])
    books = [torch.zeros(2, 2), torch.zeros(2, 2)]
    result = resolve(codes, torch.zeros(4, 2), books, "suffix", order=np.array([3, 0, 1, 2]))
    assert result.codes.tolist() == [[0, 1, 2], [1, 1, 0], [0, 1, 0], [0, 1, 1]]
    assert result.sizes == [2, 2, 3]
    assert result.report.after.largest_group == 1


def test_letter_rounds_lower_collisions_and_report_what_is_left() -> None:
    codes, latents, books = problem(60, [3, 16], 9)
    result = resolve(codes, latents, books, "letter")
    assert result.report.before.collision_rate > 0
    assert result.report.after.collision_rate < result.report.before.collision_rate
    assert 1 <= result.report.rounds <= 20
    same = resolve(np.zeros((3, 2), dtype=np.int64), torch.ones(3, 3), books, "letter")
    assert same.report.rounds == 20
    assert same.report.after.largest_group > 1


def test_none_changes_nothing_and_unknown_policies_are_named() -> None:
    codes, latents, books = problem(20, [2, 4], 1)
    np.testing.assert_array_equal(resolve(codes, latents, books, "none").codes, codes)
    with pytest.raises(ValueError, match="did you mean 'optimal'"):
        resolve(codes, latents, books, "optimum")
