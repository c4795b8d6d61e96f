"""Installs this machine's wheel in clean environments, without a compiler, and runs it.

python .ci/check_wheel.py dist python3.10 python3.13 [--library-only]

--library-only: no dependency is installed, so torch isn't either; the wheel must be accepted, its
library load, and its version be shown.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_LIBRARY = """
import ctypes, importlib.util, itertools, pathlib
found = pathlib.Path(importlib.util.find_spec("letter_fast").origin).parent
assert "site-packages" in str(found), found
library = ctypes.CDLL(str(found / "kernels/cpp/native.so"))
library.lf_instruction_sets.restype = ctypes.c_char_p
names = library.lf_instruction_sets().decode().split()
found = names[library.lf_instruction_set()]
needs = {
    "avx2": "avx2 fma f16c", "avx512": "avx512f avx512bw avx512dq avx512vl",
    "avx512_vnni": "avx512_vnni", "neon": "asimd", "neon_dotprod": "asimddp", "neon_i8mm": "i8mm",
}
told = pathlib.Path("/proc/cpuinfo")
if told.is_file():
    flags = set(told.read_text().split())
    has = lambda name: set(needs.get(name, "").split()) <= flags
    wanted = list(itertools.takewhile(has, names))[-1]
    assert found == wanted, f"the library runs {found}, this processor has {wanted}"
print("library:", found)
"""
_CODES = """
import torch, letter_fast as lf
x = torch.arange(80000.0).reshape(10000, 8) % 17
books = [x[:9].contiguous(), 0.1 * x[:7].contiguous()]
native = lf.functional.residual_search(x, books)
with lf.use_backend("reference"):
    wanted = lf.functional.residual_search(x, books)
assert all(torch.equal(a, b) for a, b in zip(native, wanted))
print("codes: those of the reference")
"""


def main(folder: str, *pythons: str) -> None:
    # A Mac's machine is called arm64, another ARM one aarch64.
    (wheel,) = Path(folder).resolve().glob(f"*{platform.machine()}.whl")
    library_only = "--library-only" in pythons
    for python in (one for one in pythons if not one.startswith("--")):
        with tempfile.TemporaryDirectory() as place:
            _check(wheel, python, Path(place), library_only)


def _check(wheel: Path, python: str, place: Path, library_only: bool) -> None:
    program = shutil.which(python)
    if program is None:
        sys.exit(f"there is no {python} here")
    subprocess.run([program, "-m", "venv", place / "venv"], check=True)
    programs = place / "venv/bin"
    # No compiler, no checkout; what is set for pip stays.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    variables = {**kept, "PATH": str(programs), "HOME": str(place)}

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            command, cwd=place, env=variables, stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout.strip()

    pip = [programs / "python", "-m", "pip", "install", "--quiet"]
    run(*pip, *(["--no-deps"] if library_only else []), str(wheel))
    print(
        run(programs / "python", "-c", "import sys; print(f'== Python {sys.version.split()[0]}')")
    )
    print(run(programs / "python", "-I", "-c", _LIBRARY))
    if not library_only:
        print(run(programs / "letter-fast", "--version"))
        print(run(programs / "python", "-W", "error", "-I", "-c", _CODES))
        print(run(programs / "letter-fast", "env"))
        said = run(programs / "letter-fast", "quickstart", "--out", "made").splitlines()
        print(next(line for line in said if "after collisions were resolved" in line))
    print("passed", "(library only)" if library_only else "", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
