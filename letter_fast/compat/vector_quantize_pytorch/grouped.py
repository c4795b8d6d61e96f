"""Columns in equal parts, each with a ResidualVQ of its own (HiFi-Codec, arXiv 2305.02765)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from letter_fast import validation

from .options import refuse
from .residual_vq import ResidualVQ
from .rows import check_rows


class GroupedResidualVQ(nn.Module):
    """A ResidualVQ for each part of the columns.

    options: of each ResidualVQ, whose dim is dim / groups.
    """

    def __init__(self, *, dim: int, groups: int = 1, **options: Any) -> None:
        super().__init__()
        dim, groups = validation.whole(dim, "dim"), validation.whole(groups, "groups")
        if dim % groups:
            raise ValueError(f"dim must be a multiple of groups, got {dim} and {groups}")
        self.dim, self.groups = dim, groups
        self.rvqs = nn.ModuleList(ResidualVQ(dim=dim // groups, **options) for _ in range(groups))

    @property
    def parts(self) -> list[ResidualVQ]:
        """`rvqs`, as what they are."""
        return [part for part in self.rvqs if isinstance(part, ResidualVQ)]

    @property
    def codebooks(self) -> Tensor:
        """[groups, L, K, D / groups]

        Raises:
            ValueError: levels differ in size, so that there is no such table.
        """
        if not self.parts[0].uniform_codebook_size:
            raise ValueError("codebooks differ in size by level: read rvqs[group].codebooks")
        return torch.stack([torch.stack(list(part.codebooks)) for part in self.parts])

    def forward(
        self,
        x: Tensor,
        indices: Tensor | None = None,
        return_all_codes: bool = False,
        sample_codebook_temp: float | None = None,
        freeze_codebook: bool | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Any, ...]:
        """x [..., dim] -> quantized [..., dim]; indices [groups, ..., L]; losses [groups, L]; with
        return_all_codes also a tuple of groups × [L, ..., D / groups].

        Raises:
            NotImplementedError, ValueError: as `ResidualVQ`.
        """
        refuse({"indices": indices})
        check_rows(x, self.dim)
        # One seed for all parts, which the package draws with and without dropout.
        device = x.device
        seed = int(torch.randint(0, 10_000, (), device=device)) if self.training else None
        found = [
            part(
                rows,
                mask=mask,
                return_all_codes=return_all_codes,
                sample_codebook_temp=sample_codebook_temp,
                freeze_codebook=freeze_codebook,
                rand_quantize_dropout_fixed_seed=seed,
            )
            for part, rows in zip(self.parts, x.chunk(self.groups, dim=-1))
        ]
        quantized, codes, losses, *words = zip(*found)
        return (torch.cat(quantized, dim=-1), torch.stack(codes), torch.stack(losses), *words)

    def get_codes_from_indices(self, indices: Tensor) -> Tensor:
        """[groups, ..., l] -> [groups, L, ..., D / groups]"""
        return torch.stack([p.get_codes_from_indices(i) for p, i in zip(self.parts, indices)])

    def get_output_from_indices(self, indices: Tensor) -> Tensor:
        """The vectors of indices. [groups, ..., l] -> [..., dim]"""
        return torch.cat(
            [p.get_output_from_indices(i) for p, i in zip(self.parts, indices)], dim=-1
        )
