"""LETTER's total of one step, from its four terms.

recon = error / elements,   diversity = mean or sum over levels
total = recon + (w_rq quantization + w_rq β diversity) + α cf
"""

from __future__ import annotations

from torch import Tensor


def weighted_total(
    error: Tensor,
    quantization: Tensor,
    cf: Tensor,
    diversity: Tensor,
    elements: int,
    weights: list[float],
    mean: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """total, recon and diversity.

    error: the reconstruction's, a sum over `elements`; quantization, cf [], diversity [L];
    weights: w_rq, β and α; mean: of the levels' diversity, else their sum -> [], [], []
    """
    w_rq, beta, alpha = weights
    recon = error / elements
    even = diversity.mean() if mean else diversity.sum()
    ours = quantization + beta * even
    if w_rq != 1.0:
        ours = w_rq * ours
    return recon + ours + alpha * cf, recon, even


def weighted_total_backward(
    slopes: list[Tensor | None],
    like: Tensor,
    elements: int,
    weights: list[float],
    mean: bool,
    levels: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The slopes of error, quantization, cf and diversity, from those of what came out.

    slopes []: of total, recon and diversity; None: not used; like: of their dtype and device
    -> [], [], [], [L]
    """
    w_rq, beta, alpha = weights
    total, recon, even = (like.new_zeros(()) if slope is None else slope for slope in slopes)
    ours = total if w_rq == 1.0 else w_rq * total
    of_even = beta * ours if slopes[2] is None else beta * ours + even
    each = of_even / levels if mean else of_even
    error = total if slopes[1] is None else total + recon
    return error / elements, ours.clone(), alpha * total, each.repeat(levels)
