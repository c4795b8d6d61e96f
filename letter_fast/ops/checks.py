"""Checks before a kernel reads memory: dtype, shape, device and layout.

Comparisons of metadata, some microseconds a call, that never wait for a device. Codes and groups,
which take a look at the numbers, are checked by the kernels (kernels/refusals.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

SEARCHED = (torch.float32, torch.float16, torch.bfloat16)
LOSSES = (torch.float32, torch.float64)
FLOAT32, FLOAT64, INT64 = (torch.float32,), (torch.float64,), (torch.int64,)
# Paths of a beam are numbered by 32 bits, and each level sorts them by insertion.
MOST_PATHS = 1 << 16
# More sweeps would be a slip; papers use 50 to 100.
MOST_SWEEPS = 1_000_000


def tensor(
    name: str,
    value: Tensor,
    dtypes: Sequence[torch.dtype],
    shape: Sequence[int | None],
    device: torch.device,
    strided: bool = False,
) -> None:
    """Refuses `value` unless it has one of the dtypes, this shape (None: any size) and device.

    strided: any layout will do; otherwise it must be contiguous.
    Raises:
        ValueError: it is another; says what was expected.
    """
    found = value.shape
    if (
        value.dtype not in dtypes
        or len(found) != len(shape)
        or any(want is not None and want != size for want, size in zip(shape, found))
        or value.device != device
        or not (strided or value.is_contiguous())
    ):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        kinds = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        layout = "" if strided or value.is_contiguous() else ", not contiguous"
        raise ValueError(
            f"{name} must be {kinds} [{wanted}] on {device}{'' if strided else ', contiguous'}; "
            f"got {str(value.dtype).removeprefix('torch.')} {list(found)} on {value.device}{layout}"
        )


def rows(name: str, x: Tensor, dtypes: Sequence[torch.dtype], dimensions: int = 2) -> None:
    """Refuses x unless it is [..., N, D], with any strides and D ≥ 1."""
    tensor(name, x, dtypes, (None,) * dimensions, x.device, strided=True)
    if x.shape[-1] == 0:
        raise ValueError(f"{name} has no width: shape {list(x.shape)}")


def codebook(table: Tensor, x: Tensor, dtype: torch.dtype = torch.float32) -> int:
    """Refuses codewords that can't be compared with the rows x. -> how many there are"""
    tensor("codebook", table, (dtype,), (None, x.shape[-1]), x.device)
    if len(table) == 0:
        raise ValueError("codebook is empty: it has no codeword")
    return len(table)


def levels(sizes: Sequence[int], words: int) -> None:
    """Refuses sizes that don't divide ΣK = `words` codewords into levels of at least one each."""
    if not sizes or min(sizes) < 1 or sum(sizes) != words:
        shown = list(sizes) if len(sizes) < 9 else [*sizes[:4], "…", sizes[-1]]
        raise ValueError(f"sizes must be at least 1 each and add up to {words}, got {shown}")


def exponent(value: int) -> None:
    """Refuses a power of two that float64 has no room for."""
    if abs(value) > 1000:
        raise ValueError(f"exponent must lie between −1000 and 1000, got {value}")


def at_least(name: str, value: float, least: float) -> None:
    """Refuses numbers below `least`, and NaN."""
    if not value >= least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
