"""Files that `torch.save` wrote, read without running what they might carry.

`torch.load(weights_only=True)` knows pickle protocol 2 only, and trainers write protocol 4; it also
refuses a whole file for one object that is not needed. Here a name in the pickle is one of three:

known      tensors, NumPy's scalars and arrays, argparse.Namespace, sets: rebuilt
refused    Python's own functions and classes, and PyTorch's functions: no checkpoint needs them
any other  a class of the trainer's: a `StandIn`, which holds what the object held, and does nothing

What is read is never more than the file has: records are stored as they are (torch.save compresses
none), each is measured before it is read, and its checksum is compared.
"""

from __future__ import annotations

import argparse
import io
import os
import pickle
import re
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, BinaryIO, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from letter_fast.paths import local_path

_MOST_PICKLE = 1 << 23  # bytes that describe the tensors; a thousand tensors take 0.2 MB
_BLOCK = 1 << 24
_OLD_FORMAT = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # a pickle of PyTorch's magic number

_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}
# Modules of Python whose classes hold values, and are found among a trainer's options.
_VALUES = ("collections", "datetime", "decimal", "enum", "fractions", "functools", "pathlib",
           "types", "uuid")  # fmt: skip


class StandIn:
    """An object of a class that is not known here.

    name: module and class; arguments: of its constructor; state: its attributes; entries, elements:
    what was put in, if it is a mapping or a list.
    """

    name: ClassVar[str] = ""

    arguments: tuple[Any, ...]
    state: dict[str, Any]
    entries: dict[Any, Any]
    elements: list[Any]

    def __new__(cls, *arguments: Any, **_: Any) -> StandIn:
        self = object.__new__(cls)  # pickles call either this or the class itself
        self.arguments, self.state, self.entries, self.elements = arguments, {}, {}, []
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value

    def append(self, value: Any) -> None:
        self.elements.append(value)

    def extend(self, values: list[Any]) -> None:
        self.elements.extend(values)

    def add(self, value: Any) -> None:
        self.elements.append(value)

    def __repr__(self) -> str:
        return f"<{self.name}>"


def read_torch_file(path: str | os.PathLike[str]) -> Any:
    """The object that `torch.save` wrote.

    NumPy scalars become Python's; objects of other classes become `StandIn`s.

    Raises:
        ValueError: it is another kind of file, is damaged, or names what no checkpoint needs.
    """
    path = local_path(path)
    if not path.is_file():
        raise ValueError(f"{path} is not a file" if path.exists() else f"{path} does not exist")
    try:
        with path.open("rb") as file:
            return _read(file)
    except _Refusal as error:
        raise ValueError(f"{path} {str(error)[:300]}") from None
    except Exception as error:  # whatever a damaged file makes of the readers below
        text = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path} is damaged: {type(error).__name__}{': ' if text else ''}{text}"
        ) from error


class _Refusal(Exception):
    """The reason why a file is not read, to stand after its name in a sentence."""


def _read(file: BinaryIO) -> Any:
    if not zipfile.is_zipfile(file):
        file.seek(0)
        begin = file.read(len(_OLD_FORMAT))
        if begin == _OLD_FORMAT:
            raise _Refusal(
                "is in the format of PyTorch before 1.6 (zip=False): load it where it was made, "
                "and save it again with torch.save"
            )
        if begin.startswith(b"PK\x03\x04"):
            raise _Refusal("is cut off: it begins as a file of torch.save, but lacks its end")
        raise _Refusal("is not a file that torch.save wrote")
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        return _Unpickler(_Records(archive, os.fstat(file.fileno()).st_size)).load()


class _Records:
    """The records of a file, none of which can be larger than the file."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self.archive = archive
        records = archive.infolist()
        found = [record.filename for record in records]
        names = {name.split("/")[-1] for name in found}
        main = [name for name in found if name.split("/")[-1] == "data.pkl"]
        # TorchScript's archives, which hold code, have constants.pkl.
        if len(main) != 1 or "constants.pkl" in names:
            raise _Refusal("is not a file that torch.save wrote")
        if any(record.compress_type != zipfile.ZIP_STORED for record in records):
            raise _Refusal("holds compressed records, which torch.save never writes")
        if sum(record.file_size for record in records) > size or len(set(found)) < len(found):
            raise _Refusal("is damaged: its records overlap")
        self.folder = main[0].removesuffix("data.pkl")
        if self.has("byteorder") and bytes(self.read("byteorder").numpy()) != b"little":
            raise _Refusal("was written on a big-endian machine: save it again on another")

    def has(self, name: str) -> bool:
        return self.folder + name in self.archive.NameToInfo

    def size(self, name: str) -> int:
        return self.archive.getinfo(self.folder + name).file_size

    def read(self, name: str) -> Tensor:
        """[bytes] uint8; BadZipFile if they aren't those that were written."""
        data = torch.empty(self.size(name), dtype=torch.uint8)
        left = data.numpy()
        with self.archive.open(self.folder + name) as record:
            while len(left):
                part = record.read(_BLOCK)
                if not part:
                    raise _Refusal(f"is cut off in its record {name}")
                left[: len(part)] = np.frombuffer(part, dtype=np.uint8)
                left = left[len(part) :]
        return data


class _StorageKind(NamedTuple):
    dtype: torch.dtype


_ORDINARY: dict[int, Callable[[Any], None]] = dict(pickle._Unpickler.dispatch)


class _Unpickler(pickle._Unpickler):
    """Builds what a pickle describes out of what `find_class` gives, and of nothing else.

    Python's own unpickler, as the one in C makes room for whatever memo number a pickle names.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(_ORDINARY)
    read: Callable[[int], bytes]
    stack: list[Any]
    metastack: list[list[Any]]

    def __init__(self, records: _Records) -> None:
        size = records.size("data.pkl")
        if size > _MOST_PICKLE:
            raise _Refusal(f"describes its tensors in {size} bytes, more than {_MOST_PICKLE}")
        self._records = records
        self._storages: dict[str, Tensor] = {}
        self._stand_ins: dict[str, type[StandIn]] = {}
        super().__init__(io.BytesIO(records.read("data.pkl").numpy().tobytes()))

    def find_class(self, module: str, name: str) -> Any:
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        full = f"{module}.{name}"
        if full in _KNOWN:
            return _KNOWN[full]
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return _StorageKind(_STORAGES[name])
        if module == "torch" and isinstance(dtype := getattr(torch, name, None), torch.dtype):
            return dtype
        root = module.split(".")[0]
        of_python = root in sys.stdlib_module_names and (module not in _VALUES or "." in name)
        of_torch = root == "torch" and not (module.startswith("torch.nn.") or name[:1].isupper())
        if of_python or of_torch:
            raise _Refusal(f"holds more than tensors, plain values and argparse.Namespace: {full}")
        if full not in self._stand_ins:
            self._stand_ins[full] = type("StandIn", (StandIn,), {"name": full})
        return self._stand_ins[full]

    def persistent_load(self, pid: Any) -> Tensor:
        """A storage, as a vector. pid: ("storage", its kind, its record, its place, its length)"""
        what, kind, key, _, length = pid
        if what != "storage" or not isinstance(kind, _StorageKind) or not isinstance(key, str):
            raise _Refusal("is damaged: it names no storage")
        if key not in self._storages:
            self._storages[key] = self._records.read(f"data/{key}")
        values = self._storages[key].view(kind.dtype)
        if len(values) != length:
            raise _Refusal(f"is damaged: storage {key} has {len(values)} numbers, others are named")
        return values

    # Below, what puts one thing into another: only where that runs nothing, and ends soon.

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, np.ndarray):
            _fill(target, *state)
        elif isinstance(target, _NumPyType):
            target.refine(*state)
        elif isinstance(target, argparse.Namespace | StandIn):
            held = target.state if isinstance(target, StandIn) else vars(target)
            for part in state if isinstance(state, tuple) else (state,):
                if isinstance(part, dict):  # other states are for a class's own __setstate__
                    held.update({name: part[name] for name in part if isinstance(name, str)})
        elif not isinstance(target, OrderedDict | type):  # whose attributes are not needed
            raise _Refusal(f"is damaged: a {type(target).__name__} is given attributes")

    def load_setitem(self) -> None:
        _check_target(self.stack[-3], dict)
        _check_keys(self.stack[-2:-1])
        _ORDINARY[pickle.SETITEM[0]](self)

    def load_setitems(self) -> None:
        _check_target(self.metastack[-1][-1], dict)
        _check_keys(self.stack[::2])
        _ORDINARY[pickle.SETITEMS[0]](self)

    def load_dict(self) -> None:
        _check_keys(self.stack[::2])
        _ORDINARY[pickle.DICT[0]](self)

    def load_append(self) -> None:
        _check_target(self.stack[-2], list)
        _ORDINARY[pickle.APPEND[0]](self)

    def load_appends(self) -> None:
        _check_target(self.metastack[-1][-1], list)
        _ORDINARY[pickle.APPENDS[0]](self)

    def load_additems(self) -> None:
        _check_target(self.metastack[-1][-1], set)
        _check_keys(self.stack)
        _ORDINARY[pickle.ADDITEMS[0]](self)

    def load_frozenset(self) -> None:
        _check_keys(self.stack)
        _ORDINARY[pickle.FROZENSET[0]](self)

    def load_bytearray8(self) -> None:
        size = int.from_bytes(self.read(8), "little")
        data = self.read(size)  # of what is there, where the original makes room for what is named
        if len(data) < size:
            raise _Refusal("is cut off in its data.pkl")
        self.stack.append(bytearray(data))

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict
    dispatch[pickle.APPEND[0]] = load_append
    dispatch[pickle.APPENDS[0]] = load_appends
    dispatch[pickle.ADDITEMS[0]] = load_additems
    dispatch[pickle.FROZENSET[0]] = load_frozenset
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8


def _check_target(target: Any, kind: type) -> None:
    if not isinstance(target, kind | StandIn):
        raise _Refusal(f"is damaged: it puts things into a {type(target).__name__}")


def _check_keys(keys: Sequence[Any]) -> None:
    """Refuses what takes long to hash: deep tuples, numbers of millions of digits."""
    for key in keys:
        for part in key if type(key) is tuple and len(key) < 16 else (key,):
            if not isinstance(part, _KEYS) or (type(part) is int and part.bit_length() > 64):
                raise _Refusal(f"is damaged: a {type(part).__name__} is not a key")


_KEYS = (str, int, float, bytes, type(None), torch.dtype, StandIn)


# What stands for the names that are known. Of the functions of PyTorch and NumPy that the pickles
# name, none is called: each could be given sizes that its data don't have.


def _tensor(values: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """torch._utils._rebuild_tensor_v2"""
    if not isinstance(values, Tensor) or values.dim() != 1 or len(size) != len(stride):
        raise _Refusal("is damaged: a tensor has no storage")
    _check_sizes((*size, *stride, offset))
    numbers = prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride)) if numbers else 0
    if numbers > len(values) or last >= max(len(values), 1):
        raise _Refusal(f"is damaged: a tensor of sizes {list(size)} reaches beyond its storage")
    return values.as_strided(size, stride, offset)


def _check_sizes(sizes: Sequence[Any]) -> None:
    if len(sizes) > 99 or not all(type(size) is int and 0 <= size < 2**62 for size in sizes):
        raise _Refusal("is damaged: a tensor or an array has impossible sizes")


def _tensor_of_dtype(
    values: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *_: Any
) -> Tensor:
    """torch._utils._rebuild_tensor_v3, for dtypes that have no storages of their own"""
    return _tensor(values.view(dtype), offset, size, stride)


def _tensor_of_class(rebuild: Any, _: Any, arguments: Any, *__: Any) -> Any:
    """torch._tensor._rebuild_from_type_v2, for tensors with attributes, or of a subclass"""
    if rebuild not in (_tensor, _tensor_of_dtype, _parameter):
        raise _Refusal("is damaged: a tensor is rebuilt by what rebuilds none")
    return rebuild(*arguments)


def _parameter(data: Any, *_: Any) -> Any:
    """torch._utils._rebuild_parameter"""
    return data


class _NumPyType:
    """numpy.dtype: kind and bytes, as "f8", then refined by its byte order."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code = code
        self.order = "="

    def refine(self, _: Any, order: str, *more: Any) -> None:
        self.order = order if order in ("<", ">") else "="
        if self.code in ("M8", "m8") and len(more) >= 6:
            (unit, count, *_rest) = more[-1][-1]
            unit = unit if isinstance(unit, str) else bytes(unit).decode()
            self.code += f"[{int(count)}{unit}]"

    def dtype(self) -> np.dtype[Any]:
        if not _NUMBERS_OR_TEXT.fullmatch(self.code):
            raise _Refusal(f"holds NumPy objects ({self.code}), which are not read")
        return np.dtype(self.order + self.code)


_NUMBERS_OR_TEXT = re.compile(r"[biufcSU]\d{1,9}|[mM]8(\[\d{1,9}[A-Za-z]{1,7}\])?")


def _scalar(kind: _NumPyType, data: bytes) -> Any:
    """numpy._core.multiarray.scalar -> a value of Python's, or NumPy's where it has none"""
    return np.frombuffer(data, kind.dtype(), count=1)[0].item()


def _array(*_: Any) -> NDArray[Any]:
    """numpy._core.multiarray._reconstruct: an array that `_fill` is to fill"""
    return np.empty(0, dtype=np.uint8)


def _fill(
    array: NDArray[Any], _: Any, shape: Any, kind: _NumPyType, columns: Any, data: Any
) -> None:
    dtype = kind.dtype()
    _check_sizes(shape)
    if not isinstance(data, bytes) or prod(shape) * dtype.itemsize != len(data):
        raise _Refusal(f"is damaged: an array of shape {list(shape)} has other data")
    state: Any = (1, tuple(shape), dtype, bool(columns), data)
    array.__setstate__(state)


def _array_of_buffer(data: Any, kind: _NumPyType, shape: Any, order: Any) -> NDArray[Any]:
    """numpy._core.numeric._frombuffer"""
    return np.frombuffer(data, kind.dtype()).reshape(shape, order="F" if order == "F" else "C")


def _bytes(text: str, encoding: str) -> bytes:
    """_codecs.encode, as protocol 2 has it for bytes"""
    if encoding != "latin1":
        raise _Refusal(f"is damaged: bytes are written as {encoding}")
    return text.encode("latin1")


def _elements(values: list[Any] | tuple[Any, ...] = ()) -> list[Any]:
    """Of a set"""
    if not isinstance(values, list | tuple):
        raise _Refusal("is damaged: a set is not made of a list")
    _check_keys(values)
    return list(values)


def _device(kind: str, number: int = 0) -> str:
    """torch.device"""
    if not isinstance(kind, str) or type(number) is not int:
        raise _Refusal("is damaged: a device has no name")
    return kind if kind == "cpu" else f"{kind}:{number}"


_KNOWN: dict[str, Any] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _tensor_of_class,
    "torch.Size": lambda sizes=(): tuple(sizes),
    "torch.device": _device,
    "collections.OrderedDict": lambda *_: OrderedDict(),
    "argparse.Namespace": argparse.Namespace,
    "builtins.set": lambda values=(): set(_elements(values)),
    "builtins.frozenset": lambda values=(): frozenset(_elements(values)),
    "builtins.complex": lambda real, imaginary: complex(real, imaginary),
    "_codecs.encode": _bytes,
    "numpy.dtype": _NumPyType,
    "numpy.ndarray": None,
    **{
        f"numpy.{core}.{name}": function
        for core in ("core", "_core")
        for name, function in {
            "multiarray.scalar": _scalar,
            "multiarray._reconstruct": _array,
            "numeric._frombuffer": _array_of_buffer,
        }.items()
    },
}
