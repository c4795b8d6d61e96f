"""LETTER's diversity loss by its definition: one row of logits for each row of the batch.

Per level, row i with code c and partner t, a random other codeword of c's group (Wang et al. 2024,
eq. 5):

    ℓ_i = −log softmax over j ≠ c of ⟨e_c, e_j⟩, at t        loss = Σ_i ℓ_i / rows not marked

A codeword alone in its group has no partner: its rows add 0 (and still count).
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from ..refusals import check_codes


def diversity(
    codes: Tensor,
    codebooks: Tensor,
    sizes: list[int],
    groups: Tensor,
    seed: Tensor,
    with_gradient: bool,
) -> tuple[Tensor, Tensor]:
    """Per level the mean over rows of log Σ_{j≠c} exp(e_c·e_j) − e_c·e_t, t a random other
    codeword of c's group.

    codes [B, L] int64 (−1 counts nowhere), codebooks [ΣK, D], groups [ΣK] int64, seed [] int64
    -> losses [L], gradient of their sum [ΣK, D] or [0, D]
    """
    check_codes(codes, sizes, whole_rows=False)
    partners = draw_partners(codes, sizes, groups, seed)
    counted = (codes[:, 0] >= 0).sum().clamp(min=1)
    losses, gradients = [], []
    with torch.autocast(codebooks.device.type, enabled=False):
        for level, words in enumerate(codebooks.split(sizes)):
            paired = partners[:, level] >= 0
            code, partner = codes[paired, level], partners[paired, level]
            rows = torch.arange(len(code), device=codes.device)
            logits = words[code] @ words.T
            logits[rows, code] = -math.inf
            log_total = logits.logsumexp(dim=1)
            losses.append((log_total - logits[rows, partner]).sum() / counted)
            slope = (logits - log_total[:, None]).exp()
            slope[rows, partner] -= 1
            gradient = slope.T @ words[code]
            gradients.append(gradient.index_add(0, code, slope @ words) / counted)
    gradient = torch.cat(gradients) if with_gradient else codebooks.new_empty((0, words.shape[1]))
    return torch.stack(losses), gradient


def draw_partners(codes: Tensor, sizes: list[int], groups: Tensor, seed: Tensor) -> Tensor:
    """A uniformly random other codeword of each code's group, a function of seed, level and row
    alone; −1 where there is none.

    codes [B, L] int64, groups [ΣK] int64, seed [] int64 -> [B, L] int64
    """
    device = codes.device
    starts, owner = _places(tuple(sizes), device)
    # All members of a group side by side, ascending, the groups of a level together.
    order = groups.argsort(stable=True)
    order = order[owner[order].argsort(stable=True)]
    place = torch.empty_like(order).scatter(0, order, torch.arange(len(order), device=device))
    changes = (groups[order].diff() != 0) | (owner[order].diff() != 0)
    section = torch.cat([changes.new_zeros(1), changes]).cumsum(0)
    begin = torch.searchsorted(section, section)[place]
    others = torch.searchsorted(section, section, right=True)[place] - begin - 1

    row = torch.arange(len(codes), device=device)[:, None]
    level = torch.arange(len(sizes), device=device)
    random = _shifted(random_bits(random_bits(seed, level), row), 32)
    word = codes.clamp(min=0) + starts
    step = place[word] - begin[word] + 1 + ((random * others[word]) >> 32)
    partner = order[begin[word] + step % (others[word] + 1)] - starts
    return torch.where((others[word] > 0) & (codes >= 0), partner, -1)


@lru_cache(maxsize=64)
def _places(sizes: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """First codeword of each level [L], and the level of each codeword [ΣK]."""
    size = torch.tensor(sizes)
    owner = torch.arange(len(sizes)).repeat_interleave(size)
    return (size.cumsum(0) - size).to(device), owner.to(device)


def random_bits(seed: Tensor, counter: Tensor) -> Tensor:
    """SplitMix64 (Steele, Lea and Flood, 2014) as a function of its counter. int64 -> int64"""
    z = seed + (counter + 1) * _signed(0x9E3779B97F4A7C15)
    z = (z ^ _shifted(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shifted(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, bits: int) -> Tensor:
    """To the right, zeros moving in."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _signed(bits: int) -> int:
    return bits - (1 << 64) if bits >> 63 else bits
