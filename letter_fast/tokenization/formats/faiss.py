"""FAISS's codes, as `ResidualQuantizer.compute_codes` gives them: .npy, uint8 [items, bytes].

Codes are bit-packed, the first token lowest; bytes are codes only where all have 8 bits.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np

from letter_fast.catalog.arrays import check_one_array
from letter_fast.tokenization.packing import pack_bits, unpack_bits
from letter_fast.tokenization.table_file import TableParts

from .facts import Facts
from .format import Contents, Format


def write(table: TableParts, facts: Facts, file: BinaryIO) -> None:
    """The packed rows, in table order."""
    np.save(file, pack_bits(table.codes, table.sizes), allow_pickle=False)


def read(path: Path, facts: Facts) -> Contents:
    """Such an array; the sizes say where a code ends."""
    packed = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(packed, np.ndarray):
        raise ValueError("it must hold one array, got an .npz archive")
    if isinstance(packed, np.memmap):
        check_one_array(path, packed)
    return Contents(unpack_bits(packed, facts.known_sizes()))


FORMAT = Format("codes.npy", Facts(), (), write, read)
