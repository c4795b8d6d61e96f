"""python tests/fake_cuda/warm.py sm_90: fills Triton's cache for a card that isn't there.

Compiles what `make gpu-check` launches, into TRITON_CACHE_DIR or ~/.triton/cache. Taken along to a
machine with the same Triton, Python and sources, that folder saves it the compiling.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import triton

from tests.fake_cuda.cards import CARDS, build_guard, environment


def main() -> None:
    cards = {f"sm_{capability}": capability for capability in CARDS}
    if len(sys.argv) != 2 or sys.argv[1] not in cards:
        sys.exit(f"CARD must be one of {', '.join(cards)}: make gpu-warm CARD=sm_90")
    run = [sys.executable, str(Path(__file__).with_name("run.py")), str(cards[sys.argv[1]])]
    with tempfile.TemporaryDirectory() as folder:
        guard = build_guard(Path(folder))
        done = subprocess.run([*run, "--warm"], env=environment(guard), check=False)
    print(f"kernels for {sys.argv[1]} are in {triton.knobs.cache.dir}")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
