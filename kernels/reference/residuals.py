"""The residuals of rows: r = x − e_{c_1} − … − e_{c_L}, each difference rounded to float32."""

from __future__ import annotations

import math

from torch import Tensor

from ..refusals import check_codes


def residuals(x: Tensor, codebooks: Tensor, sizes: list[int], codes: Tensor) -> Tensor:
    """r_l = fl32(r_{l−1} − e_{c_l}), r_0 = x, after the last level.

    x [N, D] floating point, codebooks [ΣK, D] float32, codes [N, L] int64 (a row of −1 has none)
    -> [N, D] float32, NaN for a row without codes
    """
    check_codes(codes, sizes)
    residual = x.float()
    for code, book in zip(codes.T, codebooks.split(sizes)):
        residual = residual - book[code.clamp(min=0)]
    return residual.masked_fill(codes[:, :1] < 0, math.nan)
