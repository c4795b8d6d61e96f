"""Rows as integers that float64 adds up exactly, however far apart some of them are.

Every column is measured from its middle, in units so small that N times the largest ‖x − y‖² stays
within 2⁵³. A row far from all others, or groups of rows far from each other, would leave so few
units to the rest that it looks like one point. Then the far rows are starts by themselves (a
cluster that is worth its place is at least as far away as its rows are from each other), the others
are measured from the nearest of those, and columns of their own keep the groups apart.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

# Rows that are asked how far they are from each other, and the units a column that this must be.
_ASKED, _UNITS = 64, 4
# Columns whose squares are held at once.
_COLUMNS = 8
# Farther than the near ones by this factor is far, squared.
_FAR = 1 << 16


class Grid(NamedTuple):
    """points [N, D′] float32 integers; far [m]: rows to start from whatever else is picked."""

    points: Tensor
    far: Tensor


def on_grid(rows: Tensor, k: int) -> Grid:
    """Rows x [N, D] float32, finite, of which k are to be picked."""
    points, exponent = _rounded(rows.double())
    none = torch.zeros(0, dtype=torch.int64, device=rows.device)
    if k == 1 or not _too_coarse(rows, exponent):
        return Grid(points, none)
    found = _far_rows(rows, k)
    if found is None:
        return Grid(points, none)
    far, group, radius = found
    bits = torch.arange((len(far) - 1).bit_length(), device=rows.device)
    apart = ((group[:, None] >> bits) & 1).double() * radius
    near = torch.cat([rows.double() - rows[far].double()[group], apart], dim=1)
    return Grid(_rounded(near)[0], far)


def _rounded(rows: Tensor) -> tuple[Tensor, int]:
    """Integers, in units of 2^−exponent, and that exponent. rows [N, D] float64"""
    low, high = rows.aminmax(dim=0)
    centred = rows - (low + high) / 2
    _, magnitude = math.frexp(float(centred.abs().max()))
    exponent = (51 - rows.numel().bit_length()) // 2 - magnitude
    return (centred * 2.0**exponent).round().float(), exponent


def _too_coarse(rows: Tensor, exponent: int) -> bool:
    """Whether rows and the ones nearest to them are typically but few units apart."""
    some = rows[:: -(-len(rows) // _ASKED)].double()
    apart = torch.zeros(len(some), len(some), dtype=torch.float64, device=some.device)
    for columns in some.T.split(_COLUMNS):
        for squares in (columns[:, :, None] - columns[:, None]).square():  # as in _squares
            apart += squares
    apart = apart.sqrt()
    nearest = torch.where(apart > 0, apart, math.inf).amin(dim=1)
    nearest = nearest[nearest < math.inf]
    if len(nearest) == 0:
        return False
    return float(nearest.median()) * 2.0**exponent < _UNITS * math.sqrt(rows.shape[1])


def _far_rows(rows: Tensor, k: int) -> tuple[Tensor, Tensor, float] | None:
    """Rows, each the farthest from those before, until the rest is near one of them.

    -> their places [m]; the nearest of them of each row [N]; the distance of the row farthest from
       them. None where k/2 of them (or two) aren't enough, or every row is where one of them is.
    """
    far = [0]
    group = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    distance = _squares(rows, rows[0])
    near = max(1, len(rows) // (2 * k))
    while True:
        rest = distance[distance > 0]
        if len(rest) == 0:
            return None
        if len(far) > 1 and rest.max() <= _FAR * rest.kthvalue(min(near, len(rest))).values:
            break
        if len(far) == min(k, max(2, k // 2)):
            return None
        far.append(int(distance.argmax()))
        other = _squares(rows, rows[far[-1]])
        group = torch.where(other < distance, len(far) - 1, group)
        distance = torch.minimum(distance, other)
    return torch.tensor(far, device=rows.device), group, math.sqrt(float(distance.max()))


def _squares(rows: Tensor, point: Tensor) -> Tensor:
    """‖x − y‖² in float64, column by column: the same bits on every device. [N, D], [D] -> [N]"""
    total = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    for column, value in zip(rows.double().unbind(1), point.double().unbind(0)):
        total += (column - value) * (column - value)
    return total
