"""Random streams named by what they are for, so that a resumed run needs no generator state.

Stream (seed, purpose, position) is the same whenever and wherever it is asked for.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np
import torch


def stream(seed: int, purpose: str, *position: int) -> int:
    """A 63-bit seed for one purpose ("shuffle", "positives", …) at one epoch, step or level."""
    words = np.random.SeedSequence([seed, crc32(purpose.encode()), *position]).generate_state(2)
    return (int(words[0]) << 31) ^ int(words[1])


def generator(device: torch.device, seed: int, purpose: str, *position: int) -> torch.Generator:
    """A torch generator at the start of that stream."""
    return torch.Generator(device).manual_seed(stream(seed, purpose, *position))


def permutation(rows: int, seed: int, purpose: str, *position: int) -> np.ndarray:
    """A shuffled 0 … rows − 1."""
    return np.random.default_rng(stream(seed, purpose, *position)).permutation(rows)
