"""Assignment along given arcs, in C++: as cheap as any, by the specification's table of costs."""

from __future__ import annotations

import pytest
import torch

from letter_fast.kernels.cpp.operations import transport
from letter_fast.kernels.transport import assign


@pytest.mark.parametrize(("rows", "clusters"), [(1, 1), (20, 4), (200, 10), (300, 31)])
def test_along_all_arcs_it_is_the_cheapest(rows: int, clusters: int) -> None:
    costs = torch.randint(0, 1000, (rows, clusters)).double()
    low = torch.full((clusters,), rows // clusters)
    high = low + 1
    expected = assign(costs.numpy(), low.numpy(), high.numpy())
    labels, prices, done = transport(
        torch.arange(rows + 1) * clusters,
        torch.arange(clusters, dtype=torch.int32).repeat(rows),
        costs.flatten(),
        low,
        high,
        1e9,
        torch.zeros(clusters, dtype=torch.float64),
    )
    assert done
    assert float(costs.gather(1, labels[:, None]).sum()) == expected.cost
    counts = torch.bincount(labels, minlength=clusters)
    assert bool(((counts >= low) & (counts <= high)).all())
    # Nobody would rather be elsewhere at these prices: what proves that nothing is cheaper.
    reached = costs + prices
    assert bool((reached.gather(1, labels[:, None])[:, 0] <= reached.amin(1) + 1e-6).all())
