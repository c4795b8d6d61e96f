"""The promises of each policy, on random and on adversarial groups."""

from __future__ import annotations

from itertools import permutations
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from letter_fast import kernels
from letter_fast.clustering import sinkhorn_codes
from letter_fast.tokenization import collision_statistics, items, resolve
from letter_fast.tokenization.groups import number, rows_under, shared
from letter_fast.tokenization.policies import Policy
from tests.support import oracle


def encode(latents: Tensor, books: list[Tensor]) -> np.ndarray:
    return np.array(oracle.residual_search(latents, books)[0], dtype=np.int64)


def problem(rows: int, sizes: list[int], seed: int) -> tuple[np.ndarray, Tensor, list[Tensor]]:
    latents = oracle.clustered(rows, 3, 3, seed)
    books = [0.6**level * oracle.clustered(k, 3, 3, seed + k) for level, k in enumerate(sizes)]
    return encode(latents, books), latents, books


def distortion(latents: Tensor, books: list[Tensor], codes: np.ndarray) -> float:
    quantized = sum(book.double()[codes[:, level]] for level, book in enumerate(books))
    return float((latents.double() - quantized).square().sum())


# optimal


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(0, 10_000), st.sampled_from([[2, 3, 7], [4, 10], [1, 40]]))
def test_optimal_is_always_unique_and_keeps_what_need_not_move(
    rows: int, seed: int, sizes: list[int]
) -> None:
    codes, latents, books = problem(rows, sizes, seed)
    result = resolve(codes, latents, books, "optimal")
    assert len(np.unique(result.codes, axis=0)) == rows
    report = result.report
    assert report.after.collision_rate == report.leftovers == 0
    growth = distortion(latents, books, result.codes) - distortion(latents, books, codes)
    assert report.added_distortion * rows == pytest.approx(growth, abs=1e-9)
    assert report.added_distortion_of_moved * report.moved == pytest.approx(growth, abs=1e-9)
    changed = result.codes != codes
    assert report.moved == changed.any(axis=1).sum() == sum(report.moved_at_level)
    assert report.moved_at_level[0] == changed[:, 0].sum()
    # A prefix without a collision, which nobody entered or left, is as it was.
    for prefix in np.unique(codes[:, :-1], axis=0):
        rows_of = np.flatnonzero((codes[:, :-1] == prefix).all(axis=1))
        now = np.flatnonzero((result.codes[:, :-1] == prefix).all(axis=1))
        group = codes[rows_of]
        if np.array_equal(rows_of, now) and len(np.unique(group, axis=0)) == len(group):
            np.testing.assert_array_equal(result.codes[rows_of], group)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_optimal_is_unique_whatever_the_input(data: st.DataObject) -> None:
    """Few IDs or exactly enough, points on a line, any codes, IDs held by others."""
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    everything = np.stack(np.unravel_index(np.arange(prod(sizes)), sizes), axis=1)
    random = np.random.default_rng(data.draw(st.integers(0, 1000)))
    everything = random.permutation(everything)
    held = everything[: data.draw(st.integers(0, len(everything) - 1))]
    rows = data.draw(st.integers(1, len(everything) - len(held)))
    latents = torch.from_numpy(random.integers(-1, 2, (rows, 2)).astype(np.float32))
    books = [torch.from_numpy(random.integers(-1, 2, (k, 2)).astype(np.float32)) for k in sizes]
    codes = np.stack([random.integers(0, size, rows) for size in sizes], axis=1)
    result = resolve(codes, latents, books, "optimal", held=held)
    together = np.concatenate([result.codes, held])
    assert len(np.unique(together, axis=0)) == len(together)
    assert bool(((result.codes >= 0) & (result.codes < sizes)).all())
    with kernels.use_backend("reference"):
        again = resolve(codes, latents, books, "optimal", held=held)
    np.testing.assert_array_equal(again.codes, result.codes)


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
    ("rows", "sizes"),
    [(8, [2, 2, 2]), (50, [3, 4, 5]), (300, [256, 4]), (64, [2] * 6), (9, [40])],
)
def test_all_rows_equal_still_get_unique_ids(rows: int, sizes: list[int]) -> None:
    latents = torch.ones(rows, 2)
    books = [oracle.clustered(size, 2, 2, seed) for seed, size in enumerate(sizes)]
    codes = encode(latents, books)
    result = resolve(codes, latents, books, "optimal")
    assert len(np.unique(result.codes, axis=0)) == rows
    assert bool((result.codes < np.array(sizes)).all())
    # The first in rank keeps its code.
    np.testing.assert_array_equal(result.codes[0], codes[0])


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 1e-3, 1.0])
@pytest.mark.parametrize("sizes", [[256] * 4, [2] * 17, [512, 256]])
def test_a_prefix_of_100_000_rows(sizes: list[int], spread: float) -> None:
    latents = 1 + spread * torch.randn(100_000, 8)
    books = [0.5**level * torch.randn(size, 8) for level, size in enumerate(sizes)]
    codes = np.zeros((100_000, len(sizes)), dtype=np.int64)
    result = resolve(codes, latents, books, "optimal")
    assert result.report.after.largest_group == 1


@pytest.mark.parametrize("policy", ["letter", "suffix", "optimal"])
def test_no_policy_depends_on_row_order(policy: str) -> None:
    codes, latents, books = problem(60, [3, 30], 5)
    latents[7], codes[7] = latents[3], codes[3]  # equal items are told apart by their rank
    order = np.random.default_rng(0).permutation(60)
    straight = resolve(codes, latents, books, policy, order=np.arange(60))
    shuffled = resolve(codes[order], latents[order], books, policy, order=order)
    np.testing.assert_array_equal(shuffled.codes, straight.codes[order])


@pytest.mark.parametrize("numbers", [1, 40, 100])
def test_a_few_prefixes_at_a_time_are_as_good(
    monkeypatch: pytest.MonkeyPatch, numbers: int
) -> None:
    codes, latents, books = problem(200, [3, 4, 30], 5)
    held, _, _ = resolve(codes[:50], latents[:50], books)
    whole = resolve(codes[50:], latents[50:], books, held=held)
    monkeypatch.setattr(items, "_LATENTS", numbers)
    part = resolve(codes[50:], latents[50:], books, held=held)
    np.testing.assert_array_equal(part.codes, whole.codes)
    assert part.report.to_dict() == whole.report.to_dict()


def test_more_items_than_ids_is_refused() -> None:
    latents = torch.ones(7, 2)
    books = [torch.zeros(2, 2), torch.zeros(3, 2)]
    with pytest.raises(ValueError, match=r"7 items can't have unique IDs.*only 6"):
        resolve(np.zeros((7, 2), dtype=np.int64), latents, books, "optimal")
    held = np.array([[0, 0], [1, 2]])
    with pytest.raises(ValueError, match=r"7 items can't have unique IDs"):
        resolve(np.zeros((5, 2), dtype=np.int64), latents[:5], books, "optimal", held=held)
    with pytest.raises(ValueError, match="collide with each other"):
        resolve(
            np.zeros((1, 2), dtype=np.int64), latents[:1], books, held=np.zeros((2, 2), np.int64)
        )


# IDs that are held already


@pytest.mark.parametrize("policy", ["suffix", "optimal"])
def test_twenty_batches_never_move_an_id(policy: str) -> None:
    codes, latents, books = problem(400, [4, 6, 30], 3)
    held = np.zeros((0, 3 + (policy == "suffix")), dtype=np.int64)
    for rows in np.array_split(np.arange(400), 20):
        batch = resolve(codes[rows], latents[rows], books, policy, held=held)
        assert batch.report.before.items == batch.report.after.items == len(held) + len(rows)
        held = np.concatenate([held, batch.codes])
        assert len(np.unique(held, axis=0)) == len(held)
    if policy == "suffix":
        whole = resolve(codes, latents, books, policy)
        np.testing.assert_array_equal(held, whole.codes)


def test_only_what_collides_moves_around_held_ids() -> None:
    codes, latents, books = problem(30, [2, 20], 3)
    first = resolve(codes[:20], latents[:20], books).codes
    result = resolve(codes[20:], latents[20:], books, held=first)
    taken = {tuple(code) for code in first.tolist()}
    for prefix in range(2):
        mine = codes[20:, 0] == prefix
        wanted = [tuple(code) for code in codes[20:][mine].tolist()]
        if len(set(wanted)) == len(wanted) and not taken & set(wanted):
            np.testing.assert_array_equal(result.codes[mine], codes[20:][mine])
    assert result.report.moved_at_level[0] == 0


def test_nothing_new_is_nothing_done() -> None:
    held = np.array([[0, 1, 0], [1, 1, 0], [0, 1, 1]])
    books = [torch.zeros(2, 2), torch.zeros(2, 2)]
    nobody = np.zeros((0, 2), dtype=np.int64)
    for policy, ids in (("none", held[:2, :2]), ("letter", held[:, :2]), ("suffix", held)):
        result = resolve(nobody, torch.zeros(0, 2), books, policy, held=ids)
        assert len(result.codes) == result.report.moved == result.report.leftovers == 0
        assert result.report.after.items == len(ids)
    assert result.sizes == [2, 2, 2]


# suffix


def test_suffix_counts_within_each_group() -> None:
    codes = np.array([[0, 1], [1, 1], [0, 1], [0, 1]])
    books = [torch.zeros(2, 2), torch.zeros(2, 2)]
    result = resolve(codes, torch.zeros(4, 2), books, "suffix", order=np.array([3, 0, 1, 2]))
    assert result.codes.tolist() == [[0, 1, 2], [1, 1, 0], [0, 1, 0], [0, 1, 1]]
    assert result.sizes == [2, 2, 3]
    assert result.report.after.largest_group == 1
    assert result.report.moved == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 3), max_size=30),
    st.sets(st.tuples(st.integers(0, 3), st.integers(0, 12)), max_size=20),
)
def test_suffix_takes_the_lowest_ordinals_nobody_holds(
    ids: list[int], taken: set[tuple[int, int]]
) -> None:
    held = np.array(sorted(taken), dtype=np.int64).reshape(-1, 2)
    codes = np.array(ids, dtype=np.int64)[:, None]
    result = resolve(codes, torch.zeros(len(ids), 1), [torch.zeros(4, 1)], "suffix", held=held)
    for code, ordinal in result.codes.tolist():
        lowest = next(k for k in range(100) if (code, k) not in taken)
        assert ordinal == lowest
        taken.add((code, ordinal))


# letter


def test_letter_rounds_lower_collisions_and_report_what_is_left() -> None:
    codes, latents, books = problem(60, [3, 16], 9)
    result = resolve(codes, latents, books, "letter")
    assert result.report.before.collision_rate > 0
    assert result.report.after.collision_rate < result.report.before.collision_rate
    assert 1 <= result.report.rounds <= 20
    assert result.report.leftovers == round(60 * result.report.after.colliding)
    same = resolve(np.zeros((3, 2), dtype=np.int64), torch.ones(3, 3), books, "letter")
    assert same.report.rounds == 20
    assert same.report.leftovers == 3
    assert same.report.after.largest_group > 1


def test_letter_rounds_are_those_of_the_public_code() -> None:
    """Group by group, as generate_indices.py does it."""
    codes, latents, books = problem(60, [3, 16], 9)
    expected = codes.copy()
    residual = latents - books[0][torch.from_numpy(codes[:, 0])]
    rounds = 0
    while len(np.unique(expected, axis=0)) < 60 and rounds < 20:
        ids, group = np.unique(expected, axis=0, return_inverse=True)
        for one in range(len(ids)):
            rows = np.flatnonzero(group.ravel() == one)
            if len(rows) > 1:
                # In the order of their vectors: the policy's own.
                rows = rows[np.lexsort(residual[rows].numpy().T[::-1])]
                expected[rows, 1] = sinkhorn_codes(residual[rows], books[1], 0.003, 50).numpy()
        rounds += 1
    result = resolve(codes, latents, books, "letter")
    np.testing.assert_array_equal(result.codes, expected)
    assert result.report.rounds == rounds


def test_letter_moves_new_items_off_held_ids() -> None:
    codes, latents, books = problem(60, [3, 16], 9)
    held = np.unique(codes[:30], axis=0)
    result = resolve(codes[30:], latents[30:], books, "letter", held=held)
    before = resolve(codes[30:], latents[30:], books, "none", held=held)
    assert result.report.leftovers < before.report.leftovers


# all of them


def test_none_changes_nothing_and_unknown_policies_are_named() -> None:
    codes, latents, books = problem(20, [2, 4], 1)
    result = resolve(codes, latents, books, "none")
    np.testing.assert_array_equal(result.codes, codes)
    assert result.report.leftovers == round(20 * result.report.before.colliding) > 0
    with pytest.raises(ValueError, match="did you mean 'optimal'"):
        resolve(codes, latents, books, "optimum")


@pytest.mark.parametrize("policy", ["optimal", "letter", "suffix"])
def test_lists_do_as_arrays_and_tensors_do(policy: Policy) -> None:
    codes, latents, books = problem(20, [4, 8], 1)
    order, held = np.arange(20)[::-1], np.array([[1, 3, 0]])[:, : 3 if policy == "suffix" else 2]
    expected = resolve(codes, latents, books, policy, order=order, held=held)
    lists = [book.tolist() for book in books]
    found = resolve(
        codes.tolist(), latents.tolist(), lists, policy, order=order.tolist(), held=held.tolist()
    )
    np.testing.assert_array_equal(found.codes, expected.codes)
    assert found.codes.dtype == expected.codes.dtype == np.int32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"codes": np.full((20, 2), 9)},
            r"row 0 of codes is \[9, 9\], outside codebooks of \[4",
        ),
        ({"codes": np.full((20, 2), -1)}, "outside codebooks"),
        ({"codes": np.zeros((20, 2))}, "codes must be integers, got float64"),
        ({"codes": np.zeros((20, 3), dtype=np.int64)}, r"codes must be \[N, 2\]"),
        ({"latents": torch.zeros(19, 3)}, "latents must be"),
        ({"latents": torch.full((20, 3), torch.nan)}, r"the residual of row \d+ holds NaN"),
        ({"order": np.arange(3)}, "order must have a rank"),
        ({"held": np.zeros((1, 3), dtype=np.int64)}, "held IDs must have 2 tokens"),
        ({"held": np.array([[0, 9]])}, "row 0 of held IDs"),
        ({"codebooks": []}, "at least one"),
    ],
)
def test_bad_arguments(change: dict[str, object], message: str) -> None:
    codes, latents, books = problem(20, [4, 8], 1)
    arguments = {"codes": codes, "latents": latents, "codebooks": books, **change}
    with pytest.raises(ValueError, match=message):
        resolve(**arguments)


def test_more_ids_than_int64_has_numbers() -> None:
    """Prefixes then go by their rank."""
    random = np.random.default_rng(0)
    sizes = [1 << 16] * 6
    codes = random.choice([0, 7, 65_535], size=(300, 6))
    codes[:40] = codes[0]
    books = [torch.from_numpy(random.standard_normal((1 << 16, 1)).astype(np.float32))] * 6
    result = resolve(codes, torch.zeros(300, 1), books, "optimal", held=codes[50:60])
    together = np.concatenate([result.codes, codes[50:60]])
    assert len(np.unique(together, axis=0)) == 310
    assert sizes == result.sizes


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 500), st.sampled_from([[3, 3], [3, 3, 3], [1 << 40, 1 << 40, 3]]))
def test_numbers_and_groups(seed: int, sizes: list[int]) -> None:
    random = np.random.default_rng(seed)
    codes = random.integers(0, 3, (30, len(sizes)))
    numbers = number(codes, sizes, below=5)
    assert bool((numbers <= (2**63 - 1) // 5).all())
    _, rank = np.unique(codes, axis=0, return_inverse=True)
    np.testing.assert_array_equal(np.unique(numbers, return_inverse=True)[1], rank.ravel())
    mine, theirs = numbers[:20], np.unique(numbers[20:])
    twice = [n for n in np.unique(mine) if (mine == n).sum() > 1 or n in theirs]
    assert shared(mine, theirs).tolist() == twice
    groups = rows_under(mine, np.array(twice, dtype=np.int64))
    for of, (begin, end) in zip(twice, zip(groups.starts[:-1], groups.starts[1:])):
        assert groups.rows[begin:end].tolist() == np.flatnonzero(mine == of).tolist()
    statistics = collision_statistics(codes)
    assert statistics.distinct == len(np.unique(codes, axis=0))
    assert statistics.largest_group == np.bincount(rank.ravel()).max()


@pytest.mark.parametrize("policy", ["optimal", "letter"])
def test_torch_waits_for_no_threads_while_ids_are_resolved(policy: str) -> None:
    """Its threads would spin between the kernels; see `kernels.quiet_torch`."""
    codes, latents, books = problem(40, [2, 3, 7], 1)
    seen = set()

    class Watched:
        shape = tuple(latents.shape)

        def __getitem__(self, rows: np.ndarray) -> Tensor:
            seen.add(torch.get_num_threads())
            return latents[torch.from_numpy(rows)]

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        resolve(codes, Watched(), books, policy)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == {1}
