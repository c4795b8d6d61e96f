"""Seeded damage: of bytes, and of what a file holds, which makes a whole file of other content."""

from __future__ import annotations

import copy
import io
import json
import random
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch


class Codec(NamedTuple):
    """Reader and writer of a kind of file, as lists, dictionaries, arrays and tensors."""

    load: Callable[[bytes], Any]
    dump: Callable[[Any], bytes]


def damaged(content: bytes, codec: Codec | None, draw: random.Random) -> bytes:
    """`content` with one to three injuries."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        if codec is not None and draw.random() < 0.6:
            try:
                content = codec.dump(changed(codec.load(content), draw))
                continue
            except Exception:  # it has been damaged before, or can't be written
                pass
        content = _BYTES[draw.randrange(len(_BYTES))](content, draw)
    return content


# Of bytes


def truncated(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def flipped(content: bytes, draw: random.Random) -> bytes:
    injured = bytearray(content)
    for _ in range(draw.choice((1, 1, 4, 32)) if injured else 0):
        injured[draw.randrange(len(injured))] ^= 1 << draw.randrange(8)
    return bytes(injured)


def spliced(content: bytes, draw: random.Random) -> bytes:
    """A piece of it over, or between, another place."""
    begin, end = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    at = draw.randrange(len(content) + 1)
    rest = at + draw.choice((0, end - begin))
    return content[:at] + content[begin:end] + content[rest:]


def cut(content: bytes, draw: random.Random) -> bytes:
    begin, end = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    return content[:begin] + content[end:]


def noise(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content) + 1)
    piece = draw.choice((draw.randbytes(8), bytes(8), b"\xff" * 8, b"\n", b'"', b"[" * 5000))
    return content[:at] + piece + content[at + draw.choice((0, len(piece))) :]


def renumbered(content: bytes, draw: random.Random) -> bytes:
    """One number that stands in text, as another."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?", content))
    if not found:
        return content
    one = draw.choice(found)
    other = draw.choice((b"-1", b"0", b"1e999", b"99999999999999999999", b"2147483648", b"0.5"))
    return content[: one.start()] + other + content[one.end() :]


_BYTES = (truncated, flipped, spliced, cut, noise, renumbered)

# Of content

_STRANGE: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2**31, 2**63, -(2**63) - 1, 10**400, 1e300, 0.5),
    *(float("nan"), float("inf"), "", "x", "256", "\u0000", "\ud800", [], {}, [[]], [1, "x"]),
    {"x": 1},
)


def changed(value: Any, draw: random.Random) -> Any:
    """A copy in which one part, anywhere, is another, gone, or there twice."""
    value = copy.deepcopy(value)
    holder, key = None, None
    inside = value
    while isinstance(inside, dict | list) and inside and draw.random() < 0.85:
        keys = list(inside) if isinstance(inside, dict) else range(len(inside))
        holder, key = inside, draw.choice(keys)
        inside = inside[key]
    if holder is None:
        return strange(value, draw)
    what = draw.random()
    if what < 0.25:
        del holder[key]
    elif what < 0.35 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(inside))
    elif what < 0.45 and isinstance(holder, dict):
        holder[draw.choice(("", "x", f"{key}.0", f"module.{key}"))] = holder.pop(key)
    elif what < 0.55:
        # Another part of the whole, which is of another kind more often than not.
        holder[key] = copy.deepcopy(draw.choice(list(_parts(value))))
    else:
        holder[key] = strange(inside, draw)
    return value


def strange(value: Any, draw: random.Random) -> Any:
    """Something else in its place."""
    if isinstance(value, torch.Tensor) and draw.random() < 0.8:
        return _strange_tensor(value, draw)
    if isinstance(value, np.ndarray) and draw.random() < 0.9:
        return _strange_tensor(torch.from_numpy(value), draw).numpy()
    if isinstance(value, pa.ChunkedArray):
        return _strange_column(value, draw)
    if isinstance(value, int) and not isinstance(value, bool) and draw.random() < 0.5:
        return value + draw.choice((-1, 1, value, 1000))
    if isinstance(value, str) and draw.random() < 0.5:
        return draw.choice((value + "x", value[1:], value[::-1], value * 1000))
    return draw.choice(_STRANGE)


def _strange_tensor(tensor: torch.Tensor, draw: random.Random) -> torch.Tensor:
    flat = tensor.reshape(-1)
    what = draw.randrange(9)
    if what == 0:
        return tensor.to(draw.choice((torch.int64, torch.int8, torch.float16, torch.bool)))
    if what == 1:
        return tensor.double() * draw.choice((1e300, -1.0, float("inf"), float("nan")))
    if what == 2:
        return flat.clone()
    if what == 3:
        return tensor[None].clone()
    if what == 4:
        return tensor[: draw.randrange(len(tensor) + 1)].clone() if tensor.dim() else tensor
    if what == 5 and tensor.dim() == 2:
        return tensor.T.contiguous()
    if what == 6 and tensor.dim():
        return torch.cat([tensor, tensor])
    if what == 7:
        return torch.zeros((0, 3)[draw.randrange(2)], dtype=tensor.dtype)
    if len(flat):
        one = flat.clone()
        one[draw.randrange(len(one))] = draw.choice((-1, 0, 1, 100))
        if one.is_floating_point() and draw.random() < 0.5:
            one[draw.randrange(len(one))] = draw.choice((float("nan"), float("inf"), 1e30))
        return one.reshape(tensor.shape)
    return tensor


def _strange_column(column: pa.ChunkedArray, draw: random.Random) -> pa.ChunkedArray:
    what = draw.randrange(6)
    values = column.to_pylist()
    if what == 0:
        types = (pa.string(), pa.int8(), pa.float64(), pa.binary(), pa.list_(pa.float64()))
        return column.cast(draw.choice(types))
    if what == 1:
        return pa.chunked_array([pa.nulls(len(column), draw.choice((column.type, pa.null())))])
    if what == 2:
        return pa.chunked_array([column.combine_chunks().dictionary_encode()])
    if values and what == 3:
        values[draw.randrange(len(values))] = None
    elif values and what == 4:
        values[draw.randrange(len(values))] = values[draw.randrange(len(values))]
    else:
        values = [draw.choice((1, "x", [1.0], [1, 2, 3, 4, 5], b"x")) for _ in values[:1]] * len(
            values
        )
        return pa.chunked_array([pa.array(values)])
    return pa.chunked_array([pa.array(values, column.type)])


def _parts(value: Any) -> list[Any]:
    parts = [value]
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value[:20]:
            parts += _parts(one)
    return parts


# Kinds of files


def _dump_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _load_lines(content: bytes) -> Any:
    return [json.loads(line) for line in content.splitlines()]


def _dump_lines(value: Any) -> bytes:
    return b"".join(_dump_json(one) + b"\n" for one in value)


def _dump_torch(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def _load_npy(content: bytes) -> Any:
    return np.load(io.BytesIO(content))


def _dump_npy(value: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, value)
    return file.getvalue()


def _load_parquet(content: bytes) -> Any:
    table = pq.read_table(io.BytesIO(content))
    metadata = {
        key.decode(): json.loads(text)
        for key, text in (table.schema.metadata or {}).items()
        if key == b"letter_fast"
    }
    return {"columns": dict(zip(table.column_names, table.columns)), "metadata": metadata}


def _dump_parquet(value: Any) -> bytes:
    metadata = {key: json.dumps(facts) for key, facts in value["metadata"].items()}
    file = io.BytesIO()
    pq.write_table(pa.table(value["columns"]).replace_schema_metadata(metadata), file)
    return file.getvalue()


JSON = Codec(json.loads, _dump_json)
LINES = Codec(_load_lines, _dump_lines)
TORCH = Codec(lambda content: torch.load(io.BytesIO(content), weights_only=False), _dump_torch)
NPY = Codec(_load_npy, _dump_npy)
PARQUET = Codec(_load_parquet, _dump_parquet)
SAFETENSORS = Codec(safetensors.torch.load, safetensors.torch.save)
CODECS = {
    ".json": JSON,
    ".jsonl": LINES,
    ".npy": NPY,
    ".parquet": PARQUET,
    ".safetensors": SAFETENSORS,
    ".pt": TORCH,
    ".pth": TORCH,
    ".ckpt": TORCH,
}
