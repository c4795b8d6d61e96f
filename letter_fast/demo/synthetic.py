"""A synthetic catalog of any size: a tree of clusters, and CF vectors that partly follow it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from letter_fast.atomic import replacing

_BLOCK = 1 << 16


def write_synthetic(
    folder: Path, items: int, text_width: int = 256, cf_width: int = 32, seed: int = 0
) -> tuple[Path, Path]:
    """Writes text.npy [items, text_width] and cf.npy [items, cf_width], float32, in blocks.

    Item i's place in a tree of 32 × 16 × 8 clusters, of uneven weights, gives the text vector; its
    CF vector follows the tree's first level and one of 200 tastes that text can't know.
    """
    random = np.random.default_rng(seed)
    weights = np.sort(random.random(32 * 16 * 8)) ** 3
    levels = (32, 32 * 16, 32 * 16 * 8)
    text_centres = [
        (0.6**depth) * random.standard_normal((count, text_width)) / np.sqrt(text_width)
        for depth, count in enumerate(levels)
    ]
    cf_centres = random.standard_normal((levels[0], cf_width)) / np.sqrt(cf_width)
    tastes = random.standard_normal((200, cf_width)) / np.sqrt(cf_width)
    cumulative = weights.cumsum() / weights.sum()

    text_path, cf_path = folder / "text.npy", folder / "cf.npy"
    with replacing(text_path) as text_file, replacing(cf_path) as cf_file:
        for file, width in ((text_file, text_width), (cf_file, cf_width)):
            header = {"descr": "<f4", "fortran_order": False, "shape": (items, width)}
            np.lib.format.write_array_header_1_0(file, header)
        for block in range(0, items, _BLOCK):
            rows = min(_BLOCK, items - block)
            draw = np.random.default_rng([seed, block])
            leaf = np.searchsorted(cumulative, draw.random(rows)).clip(max=levels[-1] - 1)
            path = (leaf // 128, leaf // 8, leaf)
            text = sum(centre[place] for centre, place in zip(text_centres, path))
            text = text + 0.15 * draw.standard_normal((rows, text_width)) / np.sqrt(text_width)
            cf = cf_centres[path[0]] + tastes[draw.integers(len(tastes), size=rows)]
            cf = cf + 0.3 * draw.standard_normal((rows, cf_width)) / np.sqrt(cf_width)
            text_file.write(text.astype("<f4").tobytes())
            cf_file.write(cf.astype("<f4").tobytes())
    return text_path, cf_path
