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

    Its codes are FAISS's for `encode(x, beam=rq.max_beam_size)`; FAISS's default is 5 paths.

    source: a trained faiss.ResidualQuantizer, or an index that quantizes the vectors it is given
    with one, also within IDMap or Refine.
    Raises:
        ValueError: it is something else, isn't trained, or quantizes other vectors than it is
            given: residuals of an inverted file's centroids, or transformed ones.
    """
    require("faiss", "from_faiss")
    import faiss

    theirs = _residual_quantizer(source)
    widths = faiss.vector_to_array(theirs.nbits).tolist()
    table = faiss.vector_to_array(theirs.codebooks)
    if not theirs.is_trained or len(table) != theirs.d * sum(1 << width for width in widths):
        raise ValueError("the faiss.ResidualQuantizer is not trained: it has no codebooks yet")
    quantizer = ResidualQuantizer(theirs.d, [1 << width for width in widths])
    with torch.no_grad():
        quantizer.codebooks.copy_(torch.from_numpy(table.reshape(-1, theirs.d).copy()))
    quantizer.initialized.fill_(True)
    return quantizer.eval()


def _residual_quantizer(source: Any) -> Any:
    """The faiss.ResidualQuantizer whose codes an index stores."""
    import faiss

    if isinstance(source, faiss.Index):
        source = faiss.downcast_index(source)
    name = type(source).__name__
    if isinstance(source, faiss.ResidualQuantizer):
        return source
    if isinstance(source, faiss.IndexIDMap):
        return _residual_quantizer(source.index)
    if isinstance(source, faiss.IndexRefine):
        return _residual_quantizer(source.base_index)
    if isinstance(source, faiss.IndexPreTransform):
        transforms: Any = source.chain
        chain = [
            type(faiss.downcast_VectorTransform(transforms.at(place))).__name__
            for place in range(transforms.size())
        ]
        if not chain:
            return _residual_quantizer(source.index)
        raise ValueError(
            f"{name} quantizes what {', '.join(chain)} makes of the vectors: give its .index to "
            "from_faiss, and .apply_chain(x) to the quantizer"
        )
    theirs = getattr(source, "rq", None)
    if not isinstance(theirs, faiss.ResidualQuantizer):
        raise ValueError(
            f"from_faiss takes a faiss.ResidualQuantizer, or an index with one, got {name}"
        )
    if getattr(source, "by_residual", False):
        raise ValueError(
            f"{name} with by_residual quantizes what its coarse centroids leave over, not the "
            "vectors: no residual quantizer alone gives its codes; set by_residual=False "
            "before it is trained"
        )
    return theirs


def to_faiss(quantizer: ResidualQuantizer, beam: int = 1) -> Any:
    """A faiss.ResidualQuantizer with a copy of the codebooks, that searches with `beam` paths.

    Raises:
        ValueError: a codebook's size is not a power of two, which faiss can't hold, or `beam` is
            no positive integer.
    """
    require("faiss", "to_faiss")
    import faiss

    if type(beam) is not int or not 1 <= beam < 2**31:
        raise ValueError(f"beam must be a positive integer, got {beam!r}")
    if not isinstance(quantizer, ResidualQuantizer):
        raise ValueError(f"to_faiss takes a ResidualQuantizer, got {type(quantizer).__name__}")
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
        ValueError: rows of another number of bytes (an index with `search_type` adds a norm's), or
            codes beyond the codebooks.
    """
    codes = torch.from_numpy(unpack_bits(np.asarray(packed), quantizer.codebook_sizes))
    return _within(codes, quantizer)


def pack_codes(codes: Tensor, quantizer: ResidualQuantizer) -> NDArray[np.uint8]:
    """Codes as `decode` of faiss takes them. codes [N, L] -> [N, bytes]

    Raises:
        ValueError: other shapes, no integers, or codes beyond the codebooks.
    """
    codes = _within(torch.as_tensor(codes), quantizer)
    return pack_bits(codes.cpu().numpy(), quantizer.codebook_sizes)


def _within(codes: Tensor, quantizer: ResidualQuantizer) -> Tensor:
    sizes = quantizer.codebook_sizes
    whole = not (codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool)
    if not whole or codes.dim() != 2 or codes.shape[1] != len(sizes):
        raise ValueError(
            f"codes must be integers [N, {len(sizes)}], got {codes.dtype} {list(codes.shape)}"
        )
    outside = ((codes < 0) | (codes >= codes.new_tensor(sizes, dtype=torch.int64))).any(dim=1)
    if bool(outside.any()):
        row = int(outside.to(torch.uint8).argmax())
        raise ValueError(f"row {row} has codes {codes[row].tolist()}, the codebooks have {sizes}")
    return codes
