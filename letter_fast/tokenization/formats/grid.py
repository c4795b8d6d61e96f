"""GRID's merged_predictions_tensor.pt: int64 [tokens, items], which recsys-examples train on.

Items are the columns, 0 … N − 1. A last row that tells colliding items apart is there for all.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from letter_fast.tokenization.table_file import TableParts
from letter_fast.torch_file import read_torch_file

from .facts import Facts
from .format import Contents, Format


def write(table: TableParts, facts: Facts, file: BinaryIO) -> None:
    """The tensor, as `torch.load` reads it."""
    codes = torch.from_numpy(table.codes).long() + facts.base
    torch.save(codes.T.contiguous() if facts.layout == "TN" else codes, file)


def read(path: Path, facts: Facts) -> Contents:
    """The tensor; no other object is unpickled."""
    codes = read_torch_file(path)
    if not isinstance(codes, Tensor) or codes.layout != torch.strided or codes.dim() != 2:
        is_tensor = isinstance(codes, Tensor)
        found = f"{codes.dtype} {list(codes.shape)}" if is_tensor else type(codes).__name__
        raise ValueError(f"it must hold one matrix, got {found}")
    if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
        raise ValueError(
            f"it must hold integers, got {codes.dtype}; what GRID writes before its deduplication "
            "is floating point"
        )
    shape = list(codes.shape)
    codes = codes.T if facts.layout == "TN" else codes
    tokens = codes.shape[1]
    if facts.sizes is None and tokens > codes.shape[0]:
        raise ValueError(
            f"{shape} read as {facts.layout} has more tokens than items: give layout or sizes"
        )
    if facts.sizes is not None and tokens != len(facts.sizes):
        raise ValueError(
            f"{shape} read as {facts.layout} has {tokens} tokens, {len(facts.sizes)} are expected"
        )
    return Contents((codes.long() - facts.base).contiguous().numpy())


FORMAT = Format("merged_predictions_tensor.pt", Facts(layout="TN"), ("base", "layout"), write, read)
