"""Independent, slow and literal versions that the tests judge the library by."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor


def nearest(x: Tensor, codebook: Tensor, offset: Tensor | None = None) -> list[int]:
    """argmin_k ‖x − e_k‖² + offset_k in rational arithmetic, lowest k among equals; −1 marks."""
    words = [[Fraction(value) for value in word] for word in codebook.tolist()]
    shift = (
        [Fraction(value) for value in offset.tolist()] if offset is not None else [0] * len(words)
    )
    codes = []
    for row in x.tolist():
        if not all(map(math.isfinite, row)):
            codes.append(-1)
            continue
        point = [Fraction(value) for value in row]
        scores = [
            sum((a - b) ** 2 for a, b in zip(point, word)) + extra
            for word, extra in zip(words, shift)
        ]
        codes.append(min(range(len(scores)), key=lambda k: (scores[k], k)))
    return codes


def residual_search(x: Tensor, codebooks: list[Tensor]) -> tuple[list[list[int]], Tensor]:
    """`nearest` chained over levels; codes per row, and the last float32 residual."""
    residual = x.clone()
    columns = []
    for codebook in codebooks:
        code = nearest(residual, codebook)
        residual = residual - codebook[torch.tensor(code).clamp(min=0)]
        columns.append(code)
    return [list(row) for row in zip(*columns)], residual


def clustered(rows: int, width: int, clusters: int, seed: int) -> Tensor:
    """Rows around few centres, as latents are. -> [rows, width] float32"""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((clusters, width))
    chosen = random.integers(clusters, size=rows)
    noise = 0.3 * random.standard_normal((rows, width))
    return torch.from_numpy((centres[chosen] + noise).astype(np.float32))


def levels(x: Tensor, sizes: list[int]) -> list[Tensor]:
    """Codebooks of rows of the residuals, so that deep levels are as hard as in practice."""
    books, residual = [], x
    for size in sizes:
        books.append(residual[torch.randint(len(x), (size,))] + 0.1 * torch.randn(size, x.shape[1]))
        residual = residual - books[-1][torch.cdist(residual, books[-1]).argmin(1)]
    return books


def near_ties(rows: int, width: int, words: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows one float32 step off the middle of two codewords, to either side; the codewords."""
    random = np.random.default_rng(seed)
    codebook = random.standard_normal((words, width)).astype(np.float32)
    pairs = np.array([random.choice(words, size=2, replace=False) for _ in range(rows)])
    middle = ((codebook[pairs[:, 0]].astype(np.float64) + codebook[pairs[:, 1]]) / 2).astype(
        np.float32
    )
    column = random.integers(width, size=rows)
    toward = np.where(random.random(rows) < 0.5, np.inf, -np.inf).astype(np.float32)
    index = np.arange(rows)
    middle[index, column] = np.nextafter(middle[index, column], toward)
    return torch.from_numpy(middle), torch.from_numpy(codebook)


def public_sinkhorn(x: Tensor, codebook: Tensor, epsilon: float, sweeps: int) -> Tensor:
    """Q [N, K] as LETTER's code has it (RQ-VAE/models/vq.py, layers.py), distances in float64."""
    distance = (x[:, None].double() - codebook[None].double()).square().sum(-1)
    middle = (distance.max() + distance.min()) / 2
    plan = torch.exp(-(distance - middle) / (distance.max() - middle + 1e-5) / epsilon)
    plan = plan / plan.sum()
    for _ in range(sweeps):
        plan = plan / plan.sum(dim=1, keepdim=True) / plan.shape[0]
        plan = plan / plan.sum(dim=0, keepdim=True) / plan.shape[1]
    return plan * plan.shape[0]


def log_sinkhorn(
    x: Tensor, codebook: Tensor, epsilon: float, sweeps: int
) -> tuple[np.ndarray, float]:
    """Its logarithm in extended precision, and up to what difference values of it are equal."""
    rows, words = (part.double().numpy().astype(np.longdouble) for part in (x, codebook))
    distance = np.square(rows[:, None] - words[None]).sum(-1)
    middle = (distance.max() + distance.min()) / 2
    scale = (distance.max() - middle + np.longdouble(1e-5)) * np.longdouble(epsilon)
    plan = -distance / scale
    for _ in range(sweeps):
        for axis in (1, 0):
            peak = plan.max(axis=axis, keepdims=True)
            plan = plan - peak - np.log(np.exp(plan - peak).sum(axis=axis, keepdims=True))
    return plan, 2.0**-42 * (1.0 + float(distance.max() / scale))


def between(rows: int, width: int, gap: float) -> tuple[Tensor, Tensor]:
    """Rows off the middle of two codewords by `gap` of their distance, to either side."""
    random = np.random.default_rng(1)
    book = random.standard_normal((2, width))
    side = np.where(random.random(rows) < 0.5, gap, -gap)[:, None]
    across = random.standard_normal((rows, width))
    direction = book[0] - book[1]
    across -= (across @ direction)[:, None] * direction / (direction @ direction)
    x = (book[0] + book[1]) / 2 + side * direction + across
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(book.astype(np.float32))
