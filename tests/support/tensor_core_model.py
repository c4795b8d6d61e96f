"""The sums of a tensor core, for the interpreter's `tl.dot`, which adds as numpy does.

Model of one step: b products, exact, and the accumulator are aligned to the largest of them,
truncated to F bits behind its leading one, added, and the sum is truncated to float32 (Fasi,
Higham, Mikaitis and Pranesh, 2021).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def truncated(values: NDArray[Any], unit: NDArray[Any]) -> NDArray[Any]:
    """values towards zero, in multiples of `unit`, a power of two."""
    return np.trunc(values / unit) * unit


def top_bit(values: NDArray[Any]) -> NDArray[Any]:
    """The power of two at the leading bit; tiny for 0."""
    return np.exp2(np.frexp(np.maximum(np.abs(values), 2.0**-300))[1] - 1.0)


def tensor_core(block: int, bits: int) -> Any:
    """A `create_dot` of the interpreter that adds as such a core does."""
    from triton.runtime.interpreter import TensorHandle

    def create_dot(self: Any, a: Any, b: Any, d: Any, precision: Any, imprecise: Any) -> Any:
        left, right = a.data.astype(np.float64), b.data.astype(np.float64)
        total = d.data.astype(np.float64)
        for start in range(0, left.shape[1], block):
            part = slice(start, start + block)
            terms = left[:, None, part] * right.T[None, :, part]
            terms = np.concatenate([terms, total[..., None]], axis=2)
            unit = top_bit(np.abs(terms).max(axis=2, keepdims=True)) * 2.0**-bits
            added = truncated(terms, unit).sum(axis=2)
            total = truncated(added, top_bit(added) * 2.0**-23)
        return TensorHandle(total.astype(d.data.dtype), d.dtype.scalar)

    return create_dot
