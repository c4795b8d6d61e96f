"""LETTER's diversity loss: a codeword should look like the others of its group, unlike the rest.

Per row i with code c, and e_+ a random other codeword of c's group (Wang et al. 2024, eq. 5):

    ℓ_i = −log softmax over j ≠ c of ⟨e_c, e_j⟩, at e_+

A codeword alone in its group has no e_+: its rows contribute 0 (and still count in B). Which
codeword e_+ is, is a function of (seed, level, row): the same on every device and backend.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from letter_fast import ops, validation
from letter_fast.codebooks import Codebooks, stacked
from letter_fast.kernels.refusals import check_codes


def diversity_loss(
    codes: ArrayLike,
    codebook: ArrayLike,
    groups: ArrayLike,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The mean over the batch for one level.

    codes [B] integers (a row of −1 counts nowhere), codebook [K, D], groups [K] integers -> []
    Raises:
        ValueError: shapes don't fit, or a code is outside the codebook.
    """
    found, table = validation.integers(codes, "codes"), validation.tensor(codebook, "codebook")
    if found.dim() != 1:
        raise ValueError(f"codes must be [B], got {list(found.shape)}")
    if table.dim() != 2:
        raise ValueError(f"codebook must be [K, D], got {list(table.shape)}")
    return diversity_losses(found[:, None], table, [len(table)], groups, generator)[0]


def diversity_losses(
    codes: ArrayLike,
    codebooks: Codebooks,
    sizes: Sequence[int] | None,
    groups: ArrayLike,
    seed: int | Tensor | torch.Generator | None = None,
) -> Tensor:
    """The same for all levels at once.

    codes [B, L] integers; codebooks [ΣK, D] and their sizes [L], or L × [K_l, D] and None; groups
    [ΣK] integers -> [L], float64 if the codebooks are, otherwise float32
    seed: an integer or an int64 tensor []; a generator, or None for torch's own, draws one.
    Raises:
        ValueError: shapes don't fit, or a code is outside its codebook.
    """
    found = validation.integers(codes, "codes")
    table, sizes = stacked(codebooks, sizes)
    if found.dim() != 2 or found.shape[1] != len(sizes):
        raise ValueError(
            f"codes must be [B, {len(sizes)}] for {len(sizes)} levels, got {list(found.shape)}"
        )
    validation.together(table, {"codes": found}, "codebooks")
    if found.is_cuda:  # elsewhere the kernels look
        check_codes(found, sizes, whole_rows=False)
    return diversity_of_found(found, table, sizes, groups, seed)


def diversity_of_found(
    codes: Tensor,
    codebooks: Tensor,
    sizes: list[int],
    groups: ArrayLike,
    seed: int | Tensor | torch.Generator | None = None,
) -> Tensor:
    """`diversity_losses` of codes that a search has found: int64 and in range, so unchecked.

    Raises:
        ValueError: the groups don't fit.
    """
    group = validation.integers(groups, "groups")
    if group.shape != (len(codebooks),):
        raise ValueError(
            f"groups [{len(codebooks)}] must name each codeword's, got {list(group.shape)}"
        )
    validation.together(codebooks, {"groups": group}, "codebooks")
    dtype = torch.float64 if codebooks.dtype == torch.float64 else torch.float32
    table = codebooks.to(dtype).contiguous()
    with_gradient = torch.is_grad_enabled() and table.requires_grad
    losses: Tensor = ops.diversity(
        codes.contiguous(),
        table,
        sizes,
        group.contiguous(),
        _seed(seed, codes.device),
        with_gradient,
    )[0]
    return losses


def draw_seed(generator: torch.Generator | None, device: torch.device) -> Tensor:
    """A seed of partners. -> [] int64"""
    info = torch.iinfo(torch.int64)
    return torch.randint(info.min, info.max, (), generator=generator, device=device)


def _seed(seed: int | Tensor | torch.Generator | None, device: torch.device) -> Tensor:
    """An int64 tensor [] on the device."""
    least, most = torch.iinfo(torch.int64).min, torch.iinfo(torch.int64).max
    if seed is None or isinstance(seed, torch.Generator):
        return draw_seed(seed, device)
    if isinstance(seed, Tensor):
        if seed.dim() != 0 or seed.dtype != torch.int64:
            raise ValueError(f"seed must be int64 [], got {seed.dtype} {list(seed.shape)}")
        return seed.to(device)
    return torch.tensor(validation.integer(seed, "seed", least, most), device=device)
