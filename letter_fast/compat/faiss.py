"""Codebooks and codes of faiss.ResidualQuantizer, both ways; faiss is imported when needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from letter_fast.extras import require
from letter_fast.quantizer import ResidualQuantizer
from letter_fast.tokenization.packing import bits, pack_bits, unpack_bits


def from_faiss(source: Any) -> ResidualQuantizer:
    """A quantizer with a copy of the codebooks, in evaluation mode.

    source: a trained faiss.ResidualQuantizer, or an index that has one (`.rq`).
    Raises:
        ValueError: it is not trained.
    """
    require("faiss", "from_faiss")
    import faiss

    theirs = getattr(source, "rq", source)
    if not theirs.is_trained:
        raise ValueError("the faiss.ResidualQuantizer is not trained: it has no codebooks yet")
    widths = faiss.vector_to_array(theirs.nbits).tolist()
    quantizer = ResidualQuantizer(theirs.d, [1 << width for width in widths])
    table = faiss.vector_to_array(theirs.codebooks).reshape(-1, theirs.d)
    with torch.no_grad():
        quantizer.codebooks.copy_(torch.from_numpy(table.copy()))
    quantizer.initialized.fill_(True)
    return quantizer.eval()


def to_faiss(quantizer: ResidualQuantizer, beam: int = 1) -> Any:
    """A faiss.ResidualQuantizer with a copy of the codebooks, that searches with `beam` paths.

    Raises:
        ValueError: a codebook's size is not a power of two, which faiss can't hold.
    """
    require("faiss", "to_faiss")
    import faiss

    sizes = quantizer.codebook_sizes
    if any(size & (size - 1) for size in sizes):
        raise ValueError(f"faiss holds codebooks of powers of two only, these have {sizes}")
    widths = faiss.UInt64Vector()
    for width in bits(sizes):
        widths.push_back(width)
    build: Any = faiss.ResidualQuantizer  # its stub knows of lists only, older versions of vectors
    theirs = build(quantizer.dim, widths)
    table = quantizer.codebooks.detach().cpu().float().numpy()
    faiss.copy_array_to_vector(table.ravel(), theirs.codebooks)
    theirs.max_beam_size = beam
    theirs.is_trained = True
    return theirs


def unpack_codes(packed: NDArray[np.uint8], quantizer: ResidualQuantizer) -> Tensor:
    """Codes of what `compute_codes` gives. packed [N, bytes] -> [N, L] int64

    Raises:
        ValueError: rows of another number of bytes; an index with `search_type` adds a norm's.
    """
    return torch.from_numpy(unpack_bits(packed, quantizer.codebook_sizes))


def pack_codes(codes: Tensor, quantizer: ResidualQuantizer) -> NDArray[np.uint8]:
    """What `decode` of faiss takes. codes [N, L] -> [N, bytes]"""
    return pack_bits(codes.cpu().numpy(), quantizer.codebook_sizes)
