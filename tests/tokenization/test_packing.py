"""IDs as numbers and bytes: there and back, in FAISS's layout, and never cut off."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from letter_fast.tokenization import packing

SIZES = st.lists(st.sampled_from([1, 2, 3, 7, 255, 256, 257, 8192, 65_536]), min_size=1, max_size=4)


@st.composite
def tables(draw: st.DrawFn) -> tuple[np.ndarray, list[int]]:
    sizes = draw(SIZES)
    rows = draw(st.integers(0, 12))
    columns = [draw(arrays.arrays(np.int64, rows, elements=st.integers(0, k - 1))) for k in sizes]
    return np.column_stack(columns), sizes


@given(tables())
def test_there_and_back(table: tuple[np.ndarray, list[int]]) -> None:
    codes, sizes = table
    if np.prod(np.array(sizes, dtype=object)) <= 2**63:
        packed = packing.pack(codes, sizes)
        np.testing.assert_array_equal(packing.unpack(packed, sizes), codes)
        expected = [0] * len(codes)
        for column, size in zip(codes.T.tolist(), sizes):
            expected = [number * size + code for number, code in zip(expected, column)]
        assert packed.tolist() == expected
    raw = packing.pack_bits(codes, sizes)
    assert raw.dtype == np.uint8
    np.testing.assert_array_equal(packing.unpack_bits(raw, sizes), codes)


def test_numbers_are_ordered_as_ids_are() -> None:
    codes = np.random.default_rng(0).integers(0, [5, 3, 7], (50, 3))
    order = np.lexsort(codes.T[::-1])
    np.testing.assert_array_equal(np.argsort(packing.pack(codes, [5, 3, 7]), kind="stable"), order)


@pytest.mark.parametrize("bits", [[8, 8, 8, 8], [3, 5, 8], [1, 13, 2, 10], [16, 4], [9, 9, 9]])
@pytest.mark.filterwarnings("default")  # faiss warns of its own dependencies
def test_bytes_are_those_of_faiss(bits: list[int]) -> None:
    faiss = pytest.importorskip("faiss")
    sizes = [2**width for width in bits]
    codes = np.random.default_rng(1).integers(0, sizes, (40, len(sizes)))
    theirs = faiss.pack_bitstrings(codes.astype(np.int32), bits)
    np.testing.assert_array_equal(packing.pack_bits(codes, sizes), theirs)


@pytest.mark.filterwarnings("default")
def test_codes_of_a_faiss_quantizer_name_its_codewords() -> None:
    faiss = pytest.importorskip("faiss")
    x = np.random.default_rng(2).standard_normal((500, 4), dtype=np.float32)
    quantizer = faiss.ResidualQuantizer(4, 3, 5)
    quantizer.train(x)
    raw = quantizer.compute_codes(x)
    codes = packing.unpack_bits(raw, [32] * 3)
    words = faiss.vector_to_array(quantizer.codebooks).reshape(3, 32, 4)
    decoded = sum(words[level, codes[:, level]] for level in range(3))
    np.testing.assert_allclose(decoded, quantizer.decode(raw), rtol=1e-5, atol=1e-5)


def test_as_many_ids_as_int64_has_numbers_and_no_more() -> None:
    sizes = [2**31, 2**31, 2]
    top = np.array([[2**31 - 1, 2**31 - 1, 1]])
    assert packing.pack(top, sizes).tolist() == [2**63 - 1]
    np.testing.assert_array_equal(packing.unpack(packing.pack(top, sizes), sizes), top)
    sizes = [2**31, 2**31, 3]
    with pytest.raises(ValueError, match=r"more than 2\^63; pack them to bytes"):
        packing.pack(top, sizes)
    np.testing.assert_array_equal(packing.unpack_bits(packing.pack_bits(top, sizes), sizes), top)


def test_foreign_numbers_and_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match="row 1 holds 6; codebooks of \\[2, 3\\] pack to less"):
        packing.unpack(np.array([5, 6]), [2, 3])
    with pytest.raises(ValueError, match="row 0 holds -1"):
        packing.unpack(np.array([-1]), [2, 3])
    with pytest.raises(ValueError, match=r"pack to uint8 \[N, 2\], got uint8 \[3, 1\]"):
        packing.unpack_bits(np.zeros((3, 1), dtype=np.uint8), [256, 2])
