"""Checks of arguments, once, at the public functions: one clear line says what is wrong."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from letter_fast.options import hint, shown

# What the kernels read as it is; anything else becomes float32 first.
SEARCHED_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# Sizes and widths are numbered by 32 bits, here as in PyTorch's kernels.
MOST = 2**31 - 1

Choice = TypeVar("Choice", bound=str)


def tensor(value: Any, name: str) -> Tensor:
    """`value` as a tensor: a tensor as it is; an array of any byte order and strides, nested lists
    or a frame as numbers of their own type.

    Raises:
        ValueError: no numbers, sparse, complex, or on the meta device.
    """
    found = value if isinstance(value, Tensor) else torch.from_numpy(_array(value, name))
    if found.layout != torch.strided or found.is_complex() or found.is_quantized:
        kind = "complex" if found.is_complex() else str(found.layout).removeprefix("torch.")
        raise ValueError(f"{name} must be a dense tensor of real numbers, got a {kind} one")
    return found


def _array(value: Any, name: str) -> np.ndarray[Any, Any]:
    """As PyTorch can hold it: native byte order, strides of at least 0, writable."""
    try:
        array = np.asarray(value.to_numpy() if hasattr(value, "to_numpy") else value)
    except (ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{name} can't be read as an array of numbers: {reason}") from error
    if array.dtype.kind not in "biuf" or array.dtype == np.longdouble:
        raise ValueError(
            f"{name} must be a tensor, an array or nested lists of numbers, got "
            f"{type(value).__name__} of {array.dtype}"
        )
    array = array.astype(array.dtype.newbyteorder("="), copy=not array.flags.writeable)
    return array if min(array.strides, default=0) >= 0 else array.copy()


def floats(x: Any, width: int, name: str = "x") -> Tensor:
    """`x` as a floating-point tensor [..., width].

    Raises:
        ValueError: not floating point, no dimension, or a last dimension other than `width`.
    """
    found = tensor(x, name)
    if not found.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {found.dtype}")
    if found.dim() == 0 or found.shape[-1] != width:
        raise ValueError(
            f"{name} must have a last dimension of {width}, got shape {list(found.shape)}"
        )
    if found.device.type == "meta":
        raise ValueError(f"{name} is on meta, where no numbers are")
    return found


def rows(x: Any, width: int, name: str = "x") -> Tensor:
    """`x` as [N, D] rows of float32, float16 or bfloat16, the leading dimensions folded into N.

    Raises:
        ValueError: as `floats`.
    """
    return folded(floats(x, width, name))


def folded(x: Tensor) -> Tensor:
    """A tensor that `floats` gave, as `rows` gives it."""
    flat = x.detach().reshape(-1, x.shape[-1])
    return flat if flat.dtype in SEARCHED_DTYPES else flat.float()


def matrix(x: Any, name: str = "x") -> Tensor:
    """`x` as `rows` of its own width, at least 1.

    Raises:
        ValueError: not a floating-point matrix, or without width.
    """
    found = tensor(x, name)
    if found.dim() != 2 or found.shape[1] == 0:
        raise ValueError(f"{name} must be [N, D], got shape {list(found.shape)}")
    return rows(found, found.shape[1], name)


def codebook(table: Any, name: str = "codebook") -> Tensor:
    """`table` as a contiguous [K, D] float32 codebook.

    Raises:
        ValueError: not a floating-point matrix, without codewords or width, or with NaN or Inf.
    """
    words = codebook_matrix(table, name).detach().float().contiguous()
    finite_codewords(words, name)
    return words


def codebook_matrix(table: Any, name: str = "codebook") -> Tensor:
    """`table` as a floating-point tensor [K, D], whatever its numbers.

    Raises:
        ValueError: not a floating-point matrix, or without codewords or width.
    """
    found = tensor(table, name)
    if not found.is_floating_point() or found.dim() != 2:
        raise ValueError(
            f"{name} must be a floating-point [K, D] matrix, got {found.dtype} {list(found.shape)}"
        )
    if 0 in found.shape:
        raise ValueError(f"{name} is empty: shape {list(found.shape)}")
    return found


def finite_codewords(words: Tensor, name: str) -> None:
    """Refuses codewords [K, D] with NaN or Inf: names how many and the first.

    One sum where all is well; a sum that overflows is looked into.
    """
    if words.device.type == "meta" or math.isfinite(words.sum().item()):
        return
    broken = ~words.isfinite().all(dim=1)
    if bool(broken.any()):
        raise ValueError(
            f"{int(broken.sum())} of {len(words)} codewords of {name} hold NaN or Inf (or leave "
            f"the range of float32), the first is {int(broken.to(torch.uint8).argmax())}"
        )


def together(x: Tensor, others: dict[str, Tensor], where: str = "x") -> None:
    """Refuses tensors that aren't all where `x` is, which is called `where`.

    Raises:
        ValueError: names the first on another device.
    """
    for name, other in others.items():
        if other.device != x.device:
            raise ValueError(
                f"{name} is on {other.device}, {where} on {x.device}: move one of them"
            )


def finite_codes(codes: Tensor, name: str = "x", instead: str = "") -> None:
    """Refuses codes of which some are marked −1.

    codes [N] or [N, L]; instead: what else the caller could do than drop the rows
    Raises:
        ValueError: rows held NaN or Inf; says how many and which comes first.
    """
    marked = codes < 0 if codes.dim() == 1 else (codes < 0).any(dim=-1)
    if bool(marked.any()):
        first = int(marked.to(torch.uint8).argmax())
        raise ValueError(
            f"{int(marked.sum())} of {len(marked)} rows of {name} hold NaN or Inf (or leave the "
            f"range of float32), the first is row {first}; drop them{instead}"
        )


def whole(value: Any, name: str, least: int = 1) -> int:
    """`value` as an int of at least `least`: NumPy's are taken, truth values, text and 4.0 not.

    Raises:
        ValueError: it is none, or smaller.
    """
    try:
        return integer(value, name, least)
    except ValueError:
        raise ValueError(
            f"{name} must be a whole number of at least {least}, got {value!r}"
        ) from None


def integers(value: Any, name: str) -> Tensor:
    """`value`, of any integer type, as int64.

    Raises:
        ValueError: not integers, or beyond int64.
    """
    found = tensor(value, name)
    if found.is_floating_point() or found.dtype == torch.bool:
        raise ValueError(f"{name} must be integers, got {found.dtype}")
    if found.device.type == "meta":
        raise ValueError(f"{name} is on meta, where no numbers are")
    if found.dtype == torch.uint64 and bool((found.view(torch.int64) < 0).any()):
        raise ValueError(f"{name} must be integers below 2⁶³")
    return found.long()


def codes_of(value: Any, sizes: Sequence[int], name: str = "codes") -> Tensor:
    """`value` as int64 codes [..., L], at most one column a level; −1 is left to the caller.

    Raises:
        ValueError: not integers, another number of levels, or a code outside its codebook.
    """
    found = integers(value, name)
    depth = found.shape[-1] if found.dim() else 0
    if not 0 < depth <= len(sizes):
        raise ValueError(
            f"{name} must be integers with a last dimension of 1 to {len(sizes)}, "
            f"got {found.dtype} {list(found.shape)}"
        )
    limits = found.new_tensor(list(sizes[:depth]))
    if bool(((found >= limits) | (found < -1)).any()):
        raise ValueError(f"a code is outside its codebook; the sizes are {list(sizes)}")
    return found


def integer(value: Any, name: str, least: int | None = None, most: int | None = None) -> int:
    """`value`, of Python or NumPy, as an int from `least` to `most`.

    Raises:
        ValueError: no integer, or out of range.
    """
    try:
        found = operator.index(value)
        wrong = isinstance(value, bool) or (isinstance(value, Tensor) and value.dtype == torch.bool)
    except (TypeError, RuntimeError):
        found, wrong = 0, True
    if wrong:
        raise ValueError(f"{name} must be an integer, got {value!r:.80}")
    if least is not None and found < least:
        raise ValueError(f"{name} must be at least {least}, got {found}")
    if most is not None and found > most:
        raise ValueError(f"{name} must be at most {most}, got {_shortly(found)}")
    return found


def number(value: Any, name: str, least: float = 0.0, below: float = math.inf) -> float:
    """`value`, of Python or NumPy, as a finite float, at least `least` and below `below`.

    Raises:
        ValueError: no number, NaN, or out of range.
    """
    found = math.nan
    if isinstance(value, int | float | np.number | Tensor) and not isinstance(value, bool):
        try:
            found = float(value)
        except (TypeError, ValueError, OverflowError, RuntimeError):
            found = math.nan
    if not (least <= found < below):
        upper = "be finite and" if below == math.inf else f"be below {below} and"
        raise ValueError(f"{name} must {upper} at least {least}, got {value!r:.80}")
    return found


def sizes(value: Any, name: str = "codebook_size") -> list[int]:
    """Codewords of each level as ints; one integer means one level.

    Raises:
        ValueError: no level, or a size that isn't an integer of at least 1.
    """
    if isinstance(value, np.ndarray | Tensor):
        value = value.tolist()
    if hasattr(value, "__index__"):
        value = [value]
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise ValueError(f"{name} must be an integer or a list of them, got {value!r:.80}")
    found = [integer(size, f"each of {name}", 1, MOST) for size in value]
    if not found:
        raise ValueError(f"{name} needs at least 1 level")
    return found


def divides(levels: Sequence[int], words: int, name: str = "sizes") -> list[int]:
    """`sizes` of the levels that `words` codewords are split into.

    Raises:
        ValueError: as `sizes`, or they add up to another number.
    """
    found = sizes(levels, name)
    if sum(found) != words:
        raise ValueError(f"{name} must add up to the {words} codewords, got {_shown(found)}")
    return found


def fits_in_memory(elements: int, what: str) -> None:
    """Refuses float32 numbers that take more than this machine's memory.

    Raises:
        ValueError: names both.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if 4 * elements > memory and torch.get_default_device().type == "cpu":
        raise ValueError(
            f"{what} would take {4 * elements / 2**30:.3g} GiB, this machine has "
            f"{memory / 2**30:.3g} GiB of memory"
        )


def choice(value: str, allowed: Iterable[Choice], name: str) -> Choice:
    """`value` if it is one of `allowed`; otherwise ValueError names the nearest one."""
    options = list(allowed)
    if not isinstance(value, str) or value not in options:
        near = hint(value, options)
        raise ValueError(f"{name} must be one of {', '.join(options)}, got {shown(value)}{near}")
    return value


def flags(**values: Any) -> None:
    """Refuses options that are neither true nor false: text such as "no" would count as true.

    Raises:
        ValueError: names the first.
    """
    for name, value in values.items():
        if not isinstance(value, bool | np.bool_):
            raise ValueError(f"{name} must be True or False, got {shown(value)}")


def instance(value: Any, kind: type, name: str, instead: str = "") -> None:
    """Refuses a `value` of another class than `kind`; instead: the end of the message.

    Raises:
        ValueError: names both classes.
    """
    if not isinstance(value, kind):
        got = value.__name__ if isinstance(value, type) else type(value).__name__
        also = " itself, not one that was made" if isinstance(value, type) else ""
        raise ValueError(f"{name} must be a {kind.__name__}, got {got}{also}{instead}")


def _shown(values: Sequence[int]) -> str:
    return str(list(values)) if len(values) < 9 else f"[{values[0]}, {values[1]}, …, {values[-1]}]"


def _shortly(value: int) -> str:
    return str(value) if value < 10**20 else f"about 2^{value.bit_length() - 1}"
