"""python -m bench.gpu_check: GPU tests, exactness, memory, training step, benches in 9 minutes.

Runs from a source checkout with nothing installed but torch, triton and numpy. Without pytest the
tests can't run, nor the training step without pyarrow, safetensors and huggingface_hub: it says so,
goes on, and ends with exit code 1.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from . import machine

_ROOT = Path(__file__).resolve().parent.parent
_MINUTES = 9.0


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit(f"gpu-check needs a CUDA device; torch {torch.__version__} sees none")
    end = time.monotonic() + 60 * _MINUTES - 15
    failed = []
    if importlib.util.find_spec("pytest") is None:
        print("pytest is not installed: THE TESTS DID NOT RUN", flush=True)
        failed.append("tests")
    # Other packages of the machine may warn; only failures count here. The rest of the tests needs
    # packages that this machine may lack.
    elif not _run(["pytest", "-o", "filterwarnings=default", "tests/gpu"], end - 350):
        failed.append("tests")
    if not _run(["bench.exactness", "--device", "cuda", "--millions", "3"], end - 300):
        failed.append("exactness")
    if not _run(["bench.memory", "--device", "cuda"], end - 270):
        failed.append("memory")
    results = Path(os.environ.get("RESULTS") or _ROOT / "bench" / "results")
    results.mkdir(parents=True, exist_ok=True)
    written = results / f"{machine.name(torch.device('cuda'))}-step.json"
    if not _run(["bench.step", "--device", "cuda", "--json", str(written)], end - 205):
        failed.append("training step")
    # Another project's kernel that hangs or faults must not cost us our own figures.
    lloyd = ["bench.lloyd"]
    if not _run(lloyd, end - 205) and not _run([*lloyd, "--skip", "flash-kmeans"], end - 190):
        failed.append("k-means")
    benches = ["bench", "--device", "cuda"]
    if not _run(benches, end - 100) and not _run([*benches, "--skip", "flash", "rectokens"], end):
        failed.append("benches")
    if failed:
        sys.exit(f"gpu-check failed: {', '.join(failed)}")


def _run(module: list[str], end: float) -> bool:
    """python -m `module`, stopped at `end`; whether it succeeded."""
    print("==>", " ".join(module), flush=True)
    try:
        done = subprocess.run(
            [sys.executable, "-m", *module], cwd=_ROOT, timeout=max(1.0, end - time.monotonic())
        )
    except subprocess.TimeoutExpired:
        print("out of time", flush=True)
        return False
    return done.returncode == 0


if __name__ == "__main__":
    main()
