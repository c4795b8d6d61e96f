"""python -m bench.gpu_check: what a GPU can say about this package, in 9 minutes.

    smoke         1 row, a row of NaN, 1,000 rows against the reference: anything worse ends here
    sums          how tensor cores add, which the screens' error bound assumes
    library       builds the C++ library, if it is absent and a compiler is there
    sanitizer     compute-sanitizer on the stage whose threads share memory, if it is there
    tests, exactness, memory, then figures: a training step, k-means, the benches

Each stage has its share of the time (`STAGES`), gets what earlier ones left of theirs, and is
killed, with a line that says where it stood, when that is over. RESULTS/<machine>-gpu-check.json
holds the outcomes from the first stage on, so that an interrupted check keeps what it knew.

Runs from a source checkout with nothing installed but torch, triton and numpy. Without pytest the
tests can't run, nor the training step without pyarrow, safetensors and huggingface_hub: it says so,
goes on, and ends with exit code 1.
"""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import torch

from letter_fast.kernels.cpp.library import NativeLibraryError, load

from . import machine
from .stages import Check, Stage, terminated_as_interrupted

_ROOT = Path(__file__).resolve().parent.parent
SECONDS = 9 * 60.0
# setup.py goes on where the compiler fails; here that is a failure.
_BUILD = """
import runpy, sys
sys.argv[1:] = ["--quiet", "build_ext", "--inplace"]
runpy.run_path("setup.py", run_name="__main__")
from letter_fast.kernels.cpp.library import load
load()
"""
_SANITIZER = ("/usr/local/cuda/bin", "/opt/cuda/bin")


def stages(results: Path, device_name: str) -> list[Stage]:
    """The check of this machine; shares add up to 15 s less than 9 minutes."""
    smoke = ("-m", "bench.gpu_smoke")
    # Figures of kernels that give wrong codes are worth nothing.
    sound = ("smoke",)
    step = str(results / f"{device_name}-step.json")
    return [
        Stage("smoke", smoke, 30),
        Stage("sums", ("-m", "bench.tensor_cores"), 12),
        Stage("library", ("-c", _BUILD), 40, unless=_no_build()),
        # racecheck sees shared memory alone; races through global memory are bench/races.py's.
        *(
            Stage(
                f"sanitizer: {tool}",
                (*smoke, "--settle"),
                20,
                before=(_sanitizer() or "", "--tool", tool, "--error-exitcode", "9"),
                environment=(("PYTORCH_NO_CUDA_MEMORY_CACHING", "1"),),
                unless="" if _sanitizer() else "compute-sanitizer is not there",
            )
            for tool in ("memcheck", "racecheck", "synccheck")
        ),
        # Other packages of the machine may warn; only failures count here. The rest of the tests
        # needs packages that this machine may lack.
        Stage("tests", ("-m", "pytest", "-o", "filterwarnings=default", "tests/gpu"), 140),
        Stage("exactness", ("-m", "bench.exactness", "--device", "cuda", "--millions", "3"), 45),
        Stage("memory", ("-m", "bench.memory", "--device", "cuda"), 25),
        Stage("training step", ("-m", "bench.step", "--device", "cuda", "--json", step), 55, sound),
        # Another project's kernel that hangs or faults must not cost us our own figures.
        Stage("k-means", ("-m", "bench.lloyd"), 20, sound),
        Stage(
            "k-means alone",
            ("-m", "bench.lloyd", "--skip", "flash-kmeans"),
            12,
            sound,
            mends="k-means",
        ),
        Stage("benches", ("-m", "bench", "--device", "cuda"), 66, sound),
        Stage(
            "benches alone",
            ("-m", "bench", "--device", "cuda", "--skip", "flash", "rectokens"),
            20,
            sound,
            mends="benches",
        ),
    ]


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit(f"gpu-check needs a CUDA device; torch {torch.__version__} sees none")
    device = torch.device("cuda")
    results = Path(os.environ.get("RESULTS") or _ROOT / "bench" / "results").resolve()
    name = machine.name(device)
    check = Check(results / f"{name}-gpu-check.json", _ROOT, machine.facts(device))
    if find_spec("pytest") is None:
        print("pytest is not installed: THE TESTS WILL NOT RUN", flush=True)
    with terminated_as_interrupted():
        try:
            failed = check.run(stages(results, name))
        except KeyboardInterrupt:
            sys.exit(f"gpu-check was interrupted; {check.file} has what it knew")
    if failed:
        sys.exit(f"gpu-check failed: {', '.join(failed)}")


def _no_build() -> str:
    """The reason why the C++ library isn't built."""
    try:
        load()
    except NativeLibraryError:
        load.cache_clear()
    else:
        return "it is there"
    compiler = os.environ.get("CXX", "c++").split()[0]
    if shutil.which(compiler) is None:
        return f"there is no C++ compiler ({compiler}); host parts run on the reference"
    if find_spec("setuptools") is None:
        return "setuptools is not installed"
    ninja = shutil.which("ninja") or find_spec("ninja")
    return "" if ninja else "ninja is not installed"


def _sanitizer() -> str | None:
    places = os.pathsep.join([os.environ.get("PATH", ""), *_SANITIZER])
    return shutil.which("compute-sanitizer", path=places)


if __name__ == "__main__":
    main()
