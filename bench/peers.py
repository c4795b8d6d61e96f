"""The peers. Each turns codebooks into an encoder; of its settings the fastest is kept.

Everything that depends on the codebooks alone (packing, norms, tables) is made before the clock
starts, for every peer and for us. Codes are all that is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from letter_fast import ops

Codebooks = list[Tensor]


@dataclass(frozen=True)
class Encoder:
    """encode(x [N, D]) is timed; codes(its result) -> [N, L] is not."""

    encode: Callable[[Tensor], Any]
    codes: Callable[[Any], Tensor] = lambda result: result


@dataclass(frozen=True)
class Peer:
    """One line of the table. A setting is built for the codebooks; who raises is left out."""

    name: str
    settings: Mapping[str, Callable[[Codebooks], Encoder]]
    dtype: torch.dtype = torch.float32  # of the rows it is given
    ours: bool = field(default=False, kw_only=True)
    short: bool = field(default=False, kw_only=True)  # also in `letter-fast bench`


def letter_fast(codebooks: Codebooks) -> Encoder:
    """The operation that `ResidualQuantizer.encode` calls."""
    table, sizes = torch.cat(codebooks), [len(words) for words in codebooks]
    return Encoder(lambda x: ops.residual_search(x, table, sizes, None, False)[0])


def formula(x: Tensor, codebooks: Codebooks) -> Tensor:
    """The public code of LETTER, LC-Rec and RQ-VAE: all distances, then argmin. -> [N, L]"""
    codes = []
    for words in codebooks:
        distance = x.square().sum(1, keepdim=True) + words.square().sum(1) - 2 * x @ words.T
        code = distance.argmin(1)
        x = x - words[code]
        codes.append(code)
    return torch.stack(codes, 1)


def chain(nearest: Callable[[Tensor, int], Tensor], x: Tensor, codebooks: Codebooks) -> Tensor:
    """Level by level, code = nearest(residual, level). -> [N, L]"""
    codes = []
    for level, words in enumerate(codebooks):
        code = nearest(x, level)
        x = x - words.index_select(0, code)
        codes.append(code)
    return torch.stack(codes, 1)


def chunked(encode: Callable[[Tensor], Tensor], rows: int) -> Encoder:
    return Encoder(lambda x: torch.cat([encode(part) for part in x.split(rows)]))


def eager(codebooks: Codebooks, rows: int) -> Encoder:
    return chunked(lambda x: formula(x, codebooks), rows)


def eager_addmm(codebooks: Codebooks, rows: int) -> Encoder:
    """The formula without what does not decide: ½‖e‖², made before, minus x·e in one product."""
    half = [0.5 * words.square().sum(1) for words in codebooks]

    def nearest(x: Tensor, level: int) -> Tensor:
        return torch.addmm(half[level], x, codebooks[level].T, alpha=-1.0).argmin(1)

    return chunked(lambda x: chain(nearest, x, codebooks), rows)


def eager_cdist(codebooks: Codebooks, rows: int) -> Encoder:
    def nearest(x: Tensor, level: int) -> Tensor:
        return torch.cdist(x, codebooks[level]).argmin(1)

    return chunked(lambda x: chain(nearest, x, codebooks), rows)


def compiled(codebooks: Codebooks, rows: int) -> Encoder:
    """The formula under torch.compile at one fixed shape; the last, shorter chunk runs eagerly."""
    # Inductor would else write the number of threads at hand into the code.
    options: dict[str, Any] = {} if codebooks[0].is_cuda else {"cpp.dynamic_threads": True}
    fast = torch.compile(formula, dynamic=False, fullgraph=True, options=options)

    def encode(x: Tensor) -> Tensor:
        return fast(x, codebooks) if len(x) == rows else formula(x, codebooks)

    return chunked(encode, rows)


def faiss_knn(codebooks: Codebooks, rows: int) -> Encoder:
    """faiss.knn level by level, the residual taken between."""
    import faiss

    levels = [words.numpy() for words in codebooks]

    def nearest(x: Tensor, level: int) -> Tensor:
        return torch.from_numpy(faiss.knn(x.numpy(), levels[level], 1)[1][:, 0])

    return chunked(lambda x: chain(nearest, x, codebooks), rows)


def faiss_quantizer(codebooks: Codebooks, table: bool) -> Encoder:
    """faiss.ResidualQuantizer with a beam of one; `table`: distances from tables of products."""
    import faiss
    import numpy as np

    levels, bits = len(codebooks), len(codebooks[0]).bit_length() - 1
    if any(len(words) != 1 << bits for words in codebooks):
        raise ValueError("takes levels of one size, a power of two")
    quantizer: Any = faiss.ResidualQuantizer(codebooks[0].shape[1], levels, bits)
    faiss.copy_array_to_vector(torch.cat(codebooks).numpy().ravel(), quantizer.codebooks)
    quantizer.is_trained = True
    quantizer.max_beam_size = 1
    quantizer.use_beam_LUT = int(table)
    if table:
        quantizer.compute_codebook_tables()

    def unpack(packed: Any) -> Tensor:
        """Codes lie bit by bit, the lowest bit first."""
        stream = np.unpackbits(packed, axis=1, bitorder="little", count=levels * bits)
        codes = stream.reshape(-1, levels, bits) @ (1 << np.arange(bits))
        return torch.from_numpy(codes)

    return Encoder(lambda x: quantizer.compute_codes(x.numpy()), unpack)


def lucidrains(codebooks: Codebooks, rows: int) -> Encoder:
    """vector-quantize-pytorch's ResidualVQ in eval mode, our codebooks in place of its own."""
    from vector_quantize_pytorch import ResidualVQ

    sizes = tuple(len(words) for words in codebooks)
    model = ResidualVQ(dim=codebooks[0].shape[1], codebook_size=sizes).to(codebooks[0].device)
    for layer, words in zip(model.layers, codebooks):
        layer._codebook.embed.data.copy_(words[None])
    model.eval()
    return chunked(lambda x: model(x[None])[1][0], rows)


def rectokens(codebooks: Codebooks, split: bool) -> Encoder:
    """RecTokens' Triton kernels (TF32) level by level; `split`: the one that splits K and D."""
    # Imported past rectokens.ops, which turns TF32 on for the whole process.
    from rectokens.kernels.nn_quantize import quantize_fwd, quantize_fwd_mm

    def nearest(x: Tensor, level: int) -> Tensor:
        words = codebooks[level]
        code: Tensor = quantize_fwd_mm(x, words)[0] if split else quantize_fwd(x, words)
        return code

    return Encoder(lambda x: chain(nearest, x, codebooks))


def flash_kmeans(codebooks: Codebooks) -> Encoder:
    """flash-kmeans' assignment (TF32 for float32 rows) level by level."""
    from flash_kmeans.assign_euclid_triton import euclid_assign_triton

    def nearest(x: Tensor, level: int) -> Tensor:
        norms = x.square().sum(1)
        code: Tensor = euclid_assign_triton(x[None], codebooks[level][None], norms[None])
        return code[0].long()

    return Encoder(lambda x: chain(nearest, x, codebooks))


def _sizes(
    build: Callable[..., Encoder], *rows: int, prefix: str = ""
) -> dict[str, Callable[[Codebooks], Encoder]]:
    return {f"{prefix}chunk {n:,}": partial(build, rows=n) for n in rows}


WHOLE = 1 << 40

OURS = [
    Peer("letter-fast fp32", {"": letter_fast}, ours=True, short=True),
    Peer("letter-fast fp16", {"": letter_fast}, torch.float16, ours=True),
    Peer("letter-fast bf16", {"": letter_fast}, torch.bfloat16, ours=True),
]

CPU = [
    Peer(
        "faiss.knn chained",
        {**_sizes(faiss_knn, 4096, 16_384), "whole": partial(faiss_knn, rows=WHOLE)},
        short=True,
    ),
    Peer(
        "faiss ResidualQuantizer",
        {
            "no LUT": partial(faiss_quantizer, table=False),
            "LUT": partial(faiss_quantizer, table=True),
        },
    ),
    Peer(
        "torch eager, chunked",
        {
            **_sizes(eager, 256, 1024, 4096),
            **_sizes(eager_addmm, 256, 1024, 4096, prefix="addmm, "),
        },
        short=True,
    ),
    Peer("torch eager, whole N×K", {"": partial(eager, rows=WHOLE)}),
    Peer("torch.cdist, chunked", _sizes(eager_cdist, 256, 1024, 4096)),
    Peer("torch.compile, chunked", _sizes(compiled, 1024)),
    Peer("vector-quantize-pytorch", _sizes(lucidrains, 1024, 8192)),
]

CUDA = [
    Peer("flash-kmeans assignment", {"": flash_kmeans}),
    Peer(
        "RecTokens kernel",
        {"split": partial(rectokens, split=True), "one pass": partial(rectokens, split=False)},
    ),
    Peer(
        "torch eager",
        {
            **_sizes(eager, 25_000, 125_000),
            **_sizes(eager_addmm, 25_000, 125_000, prefix="addmm, "),
        },
        short=True,
    ),
    Peer("torch.compile", _sizes(compiled, 25_000, 125_000)),
]


def peers(device: torch.device) -> list[Peer]:
    """Ours first, then the others."""
    return [*OURS, *(CUDA if device.type == "cuda" else CPU)]
