"""LETTER's diversity loss: a codeword should look like the others of its group, unlike the rest.

Per row i with code c, and e_+ a random other codeword of c's group (Wang et al. 2024, eq. 5):

    ℓ_i = −log softmax over j ≠ c of ⟨e_c, e_j⟩, at e_+

A codeword alone in its group has no e_+: its rows contribute 0 (and still count in B). Which
codeword e_+ is, is a function of (seed, level, row): the same on every device and backend.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from letter_fast import ops


def diversity_loss(
    codes: Tensor, codebook: Tensor, groups: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """The mean over the batch for one level.

    codes [B] int64 (a row of −1 counts nowhere), codebook [K, D], groups [K] int64 -> []
    Raises:
        ValueError: shapes don't fit.
    """
    if codes.dim() != 1:
        raise ValueError(f"codes must be [B], got {list(codes.shape)}")
    return diversity_losses(codes[:, None], codebook, [len(codebook)], groups, generator)[0]


def diversity_losses(
    codes: Tensor,
    codebooks: Tensor,
    sizes: Sequence[int],
    groups: Tensor,
    seed: int | Tensor | torch.Generator | None = None,
) -> Tensor:
    """The same for all levels at once.

    codes [B, L] int64, codebooks [ΣK, D], level l being the next sizes[l] rows, groups [ΣK] int64
    -> [L], float64 if the codebooks are, otherwise float32
    seed: an integer or an int64 tensor []; a generator, or None for torch's own, draws one.
    Raises:
        ValueError: shapes don't fit.
    """
    words = sum(sizes)
    if codes.dim() != 2 or codes.shape[1] != len(sizes) or codebooks.shape[:1] != (words,):
        raise ValueError(
            f"codes must be [B, {len(sizes)}] and codebooks [{words}, D], got "
            f"{list(codes.shape)} and {list(codebooks.shape)}"
        )
    if groups.shape != (words,):
        raise ValueError(f"groups [{words}] must name each codeword's, got {list(groups.shape)}")
    if seed is None or isinstance(seed, torch.Generator):
        least, most = torch.iinfo(torch.int64).min, torch.iinfo(torch.int64).max
        seed = torch.randint(least, most, (), generator=seed, device=codes.device)
    elif not isinstance(seed, Tensor):
        seed = torch.tensor(seed, device=codes.device)
    dtype = torch.float64 if codebooks.dtype == torch.float64 else torch.float32
    table = codebooks.to(dtype).contiguous()
    with_gradient = torch.is_grad_enabled() and table.requires_grad
    losses: Tensor = ops.diversity(
        codes.contiguous(), table, list(sizes), groups.long().contiguous(), seed, with_gradient
    )[0]
    return losses
