"""python tests/fake_cuda/warm.py sm_90: fills Triton's cache for a card that isn't there.

Compiles what `make gpu-check` launches, into TRITON_CACHE_DIR or ~/.triton/cache. Taken along to a
machine with the same Triton, Python and sources, that folder saves it the compiling.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from harness import CARDS, Card, build_guard


def main() -> None:
    cards = {f"sm_{capability}": capability for capability in CARDS}
    if len(sys.argv) != 2 or sys.argv[1] not in cards:
        sys.exit(f"CARD must be one of {', '.join(cards)}: make gpu-warm CARD=sm_90")
    with tempfile.TemporaryDirectory() as folder:
        card = Card(cards[sys.argv[1]], build_guard(Path(folder)))
    import triton
    from run import as_gpu_check, on_every_card, on_one_card

    launches = set()
    for name, case in (*on_every_card(), *on_one_card(), *as_gpu_check()):
        print(name, flush=True)
        record = card.run(case)
        if record.problems:
            sys.exit(f"{name}: {'; '.join(record.problems)}")
        launches.update(record.launches)
    print(f"{len(launches)} kernels for {sys.argv[1]} in {triton.knobs.cache.dir}")


if __name__ == "__main__":
    main()
