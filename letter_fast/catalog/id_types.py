"""Types that identify an item, and the one form of each that all of the library uses.

    text      string, large_string, string_view                     string
    integers  of every width; decimals without a fraction           int64, beyond it uint64
    bytes     binary, large_binary, binary_view, fixed_size_binary  binary, byte for byte
    UUIDs     arrow.uuid                                            string, like 9f1c…-…

and dictionaries (pandas' categories) of these. Bytes stay bytes: whether they are text can't be
known. Nothing else names items: a float has lost digits or met a gap, a time or a truth value says
something about an item.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from .errors import CatalogError, first_line

_TEXT = ("string", "large_string", "string_view")
_BYTES = ("binary", "large_binary", "binary_view")
_UUID = "extension<arrow.uuid>"
_LARGEST = pa.scalar(2**63 - 1, pa.uint64())
ItemId = str | int | bytes
ACCEPTED = "text, integers, bytes or UUIDs"


def names_items(kind: pa.DataType) -> bool:
    """Whether values of this type identify items."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return names_items(kind.value_type)
    return (
        str(kind) in (*_TEXT, *_BYTES, _UUID)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_integer(kind)
        or (pa.types.is_decimal(kind) and kind.scale == 0)
    )


def refusal(kind: pa.DataType) -> str:
    """The reason why values of this type identify no item."""
    reason = f"is {kind}, which can't name items: ids are {ACCEPTED}"
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_floating(plain):
        return f"{reason} (pandas makes integers floats where a merge left gaps: cast them back)"
    return reason


def canonical(ids: pa.Array | pa.ChunkedArray, where: str) -> pa.Array:
    """Item ids in their one form, see above; CatalogError if their type has none."""
    if not names_items(ids.type):
        raise CatalogError(f"{where} {refusal(ids.type)}")
    chunks = ids.chunks if isinstance(ids, pa.ChunkedArray) else [ids]
    try:
        plain = [_plain(chunk) for chunk in chunks] or [_plain(pa.array([], ids.type))]
        whole = plain[0] if len(plain) == 1 else pa.concat_arrays(plain)
        if pa.types.is_decimal(whole.type) or whole.type == pa.uint64():
            return _integers(whole, where)
    except pa.ArrowException as error:
        raise CatalogError(f"{where} can't be read as item ids: {first_line(error)}") from error
    return whole


def asked_ids(values: Any, kind: pa.DataType) -> pa.Array:
    """Values to look up among ids of this type, as that type; null where no such id can be.

    Raises:
        CatalogError: they are not of a type that could name these items.
    """
    ids = as_arrow(values, "item ids")
    if len(ids) == 0 or pa.types.is_null(ids.type):
        return pa.nulls(len(ids), kind)
    ids = canonical(ids, "item ids")
    if ids.type == kind:
        return ids
    if ids.type == pa.binary():
        raise CatalogError(f"item ids are {kind}, got bytes: decode them")
    try:
        if pa.types.is_integer(ids.type) and pa.types.is_integer(kind):
            signed = kind == pa.int64()
            held = pc.less_equal(ids, _LARGEST) if signed else pc.greater_equal(ids, 0)
            return pc.if_else(held, ids, None).cast(kind)
        if pa.types.is_integer(kind):
            digits = ids.cast(pa.string())
            padded = pc.fill_null(pc.match_substring_regex(digits, "^[+-]?0.+|^[+]|^-0"), False)
            if pc.any(padded).as_py():
                first = digits[padded.index(True).as_py()].as_py()
                raise CatalogError(f"item ids are {kind}: {first!r} is not written as a number")
            return digits.cast(kind)
        return ids.cast(pa.string()).cast(kind)
    except pa.ArrowException as error:
        raise CatalogError(f"item ids are {kind}: {first_line(error)}") from error


def as_arrow(values: Any, where: str) -> pa.Array | pa.ChunkedArray:
    """Values of whatever library as Arrow has them; CatalogError if they can't be ids."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if isinstance(values, str | bytes | dict | set | frozenset):
        raise CatalogError(f"{where} must be a list or an array, got {type(values).__name__}")
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    if isinstance(values, np.ndarray) and not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    try:
        try:
            return pa.array(values)
        except OverflowError:  # Arrow takes Python's integers for int64
            return pa.array(values, pa.uint64())
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise CatalogError(
            f"{where} must be {ACCEPTED}, all of one kind: {first_line(error)}"
        ) from error


def _plain(ids: pa.Array) -> pa.Array:
    """Text as string, bytes as binary, integers as int64 or uint64."""
    kind = ids.type
    if pa.types.is_dictionary(kind):
        return _plain(ids.dictionary).take(ids.indices)
    if pa.types.is_run_end_encoded(kind):
        return _plain(pc.run_end_decode(ids))
    if str(kind) == _UUID:
        return _uuid_text(ids)
    if str(kind) in _TEXT:
        return ids.cast(pa.string())
    if pa.types.is_decimal(kind) or kind == pa.uint64():
        return ids
    if pa.types.is_integer(kind):
        return ids.cast(pa.int64())
    return ids.cast(pa.binary())


def _integers(ids: pa.Array, where: str) -> pa.Array:
    for kind in (pa.int64(), pa.uint64()):
        try:
            return ids.cast(kind)
        except pa.ArrowInvalid:
            continue
    raise CatalogError(f"{where} holds integers beyond 64 bits; write them as text")


def _uuid_text(ids: pa.Array) -> pa.Array:
    """ "9f1c8b52-…" of each 16 bytes, nulls kept."""
    rows = len(ids)
    storage = ids.storage.take(pa.array(np.arange(rows)))  # a slice's bytes begin elsewhere
    raw = np.frombuffer(storage.buffers()[1] or b"", np.uint8)[: 16 * rows].reshape(rows, 16)
    text = np.full((rows, 36), ord("-"), dtype=np.uint8)
    places = [place for place in range(36) if place not in (8, 13, 18, 23)]
    halves = np.stack([raw >> 4, raw & 15], axis=2).reshape(rows, 32)
    text[:, places] = np.frombuffer(b"0123456789abcdef", np.uint8)[halves]
    words = pa.Array.from_buffers(pa.binary(36), rows, [None, pa.py_buffer(text.tobytes())])
    words = words.cast(pa.binary()).cast(pa.string())
    return pc.if_else(storage.is_valid(), words, pa.scalar(None, pa.string()))
