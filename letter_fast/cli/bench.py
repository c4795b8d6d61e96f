"""letter-fast bench."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .terminal import Json, print_json

# Of the full benches' rows, and seconds a call: all of it stays under a minute on two cores.
_SCALE, _SECONDS = 0.25, 0.2


def bench(
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    rounds: Annotated[int, typer.Option(help="Turns of each; the median counts.")] = 5,
    json: Json = False,
) -> None:
    """Measure the residual search here, beside PyTorch and, if installed, faiss.

    The full benches are in a source checkout: make bench.
    """
    import torch

    from letter_fast.bench import machine, report
    from letter_fast.bench.measure import compare
    from letter_fast.bench.peers import peers
    from letter_fast.bench.workloads import W1, W2, W3, make

    if rounds < 1:
        raise ValueError(f"--rounds must be at least 1, got {rounds}")
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise ValueError(f"--device must be cpu, or cuda on a machine with a GPU, got {device}")
    place = torch.device(device)
    facts = machine.facts(place)
    comparisons = []
    for workload in (W1, W2, W3):
        comparisons.append(
            compare(
                workload,
                make(workload, round(_SCALE * workload.rows(place)), place),
                [peer for peer in peers(place) if peer.short],
                threads=[torch.get_num_threads()],
                rounds=rounds,
                seconds=_SECONDS,
                tell=lambda message: print(message, file=sys.stderr, flush=True),
            )
        )
    if json:
        print_json(report.record(comparisons, facts))
    else:
        report.show(comparisons, facts)
