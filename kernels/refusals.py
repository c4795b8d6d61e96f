"""The numbers that kernels refuse once they see them, a line each, and the check of codes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

CODE_OUTSIDE = "a code is outside its codebook (−1 marks a row without codes, at all its levels)"
NO_GROUPS = "starts must ascend from 0 to the number of rows, taken_starts to that of taken codes"
NO_ROOM = "a group has more rows than codes that are not taken"
NOT_FINITE = "rows and codewords must be finite, some are NaN or Inf"


def check_codes(codes: Tensor, sizes: Sequence[int], whole_rows: bool = True) -> None:
    """Refuses codes [N, L] unless each names one of its level's codewords or is −1.

    whole_rows: a row has codes at all levels, or −1 at all.
    Raises:
        ValueError: one is outside.
    """
    inside = (codes >= 0) & (codes < codes.new_tensor(list(sizes)))
    marked = codes == -1
    if whole_rows:
        inside, marked = inside.all(dim=1), marked.all(dim=1)
    if not bool((inside | marked).all()):
        raise ValueError(CODE_OUTSIDE)


def check_groups(
    x: Tensor, codebook: Tensor, starts: Tensor, home: Tensor, taken: Tensor, taken_starts: Tensor
) -> None:
    """Refuses what doesn't divide rows and taken codes into groups, codes outside, NaN and Inf."""
    for names, codes in ((starts, home), (taken_starts, taken)):
        if int(names[0]) != 0 or int(names[-1]) != len(codes) or bool((names.diff() < 0).any()):
            raise ValueError(NO_GROUPS)
        if bool(((codes < 0) | (codes >= len(codebook))).any()):
            raise ValueError(CODE_OUTSIDE)
    if not bool(x.isfinite().all() & codebook.isfinite().all()):
        raise ValueError(NOT_FINITE)
