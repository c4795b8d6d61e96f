"""The input of a policy: new items as encoded, and the IDs that others hold."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .groups import Codes, Numbers
from .held import HeldIds

# Numbers of latents in memory: of rows in any order, and of rows from all over the catalog, which
# are read the faster the more there are.
_LATENTS, _TOGETHER = 1 << 21, 1 << 23


class LatentRows(Protocol):
    """[N, D] latents of which chosen rows can be had: a tensor, an array, or what encodes them."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N, D"""

    def __getitem__(self, rows: NDArray[np.int64], /) -> Any:
        """A copy of the latents of chosen rows, [R, D]"""


class Items(NamedTuple):
    """N items without an ID of their own yet, and M IDs that others hold.

    codes [N, L], as encoded; latents [N, D]; codebooks L × [K_l, D] float32 on the CPU;
    rank [N]: order among equal items, None: that of the rows; held: M.
    """

    codes: Codes
    latents: LatentRows
    codebooks: list[Tensor]
    rank: Numbers | None
    held: HeldIds

    @property
    def sizes(self) -> list[int]:
        """Codewords of each level."""
        return [len(codebook) for codebook in self.codebooks]

    def rank_of(self, rows: Numbers) -> Numbers:
        """The rank of chosen items. rows [R] -> [R]"""
        return rows if self.rank is None else self.rank[rows]

    @property
    def are_nearest(self) -> bool:
        """Whether the last code of each item is known to be the nearest to its residual."""
        return bool(getattr(self.latents, "made_the_codes", False))

    @property
    def at_once(self) -> int:
        """Rows per block where only some latents are needed, about 8 MB."""
        return max(1, _LATENTS // self.codebooks[0].shape[1])

    @property
    def together(self) -> int:
        """Rows per block where they are gathered from all over the catalog, about 32 MB."""
        return max(1, _TOGETHER // self.codebooks[0].shape[1])

    def residuals(self, rows: Numbers, prefixes: Codes) -> Tensor:
        """The residuals of `rows` after their prefixes, in float32 as the search has them.

        rows [R], prefixes [R, d] -> [R, D]
        Raises:
            ValueError: a residual holds NaN or Inf.
        """
        residual = torch.as_tensor(self.latents[rows]).detach().cpu().float().contiguous()
        broken = np.zeros(len(rows), dtype=bool)
        for start in range(0, len(rows), self.at_once):
            part = slice(start, start + self.at_once)
            for codebook, column in zip(self.codebooks, prefixes[part].T):
                residual[part] -= codebook[torch.from_numpy(column).long()]
            broken[part] = ~residual[part].isfinite().all(dim=1).numpy()
        if broken.any():
            raise ValueError(
                f"the residual of row {rows[broken].min()} holds NaN or Inf: its latent does, or "
                "leaves the range of float32 with these codes; drop the row or encode it again"
            )
        return residual

    def growth(self, rows: Numbers, before: Codes, after: Codes) -> NDArray[np.float64]:
        """The growth of ‖z − q‖² of `rows` from codes to codes. rows [R], codes [R, L] -> [R]"""
        difference = np.empty(len(rows))
        for start in range(0, len(rows), self.at_once):
            part = slice(start, start + self.at_once)
            z = torch.as_tensor(self.latents[rows[part]]).detach().cpu().double()
            was, now = (self._squared_error(z, codes[part]) for codes in (before, after))
            difference[part] = (now - was).numpy()
        return difference

    def _squared_error(self, z: Tensor, codes: Codes) -> Tensor:
        error = z
        for codebook, column in zip(self.codebooks, codes.T):
            error = error - codebook[torch.from_numpy(column).long()].double()
        return error.square().sum(dim=1)
