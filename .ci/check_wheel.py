"""Installs this machine's wheel in clean environments, without a compiler, and runs it.

python .ci/check_wheel.py dist python3.10 python3.13 [--library-only]

The tests of tests/ that need the package only are run on what was installed; at the end stands a
table of what came of it. --library-only: no dependency is installed, so torch isn't either; the
wheel must be accepted and its library load.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.processor import runs_here  # noqa: E402

# Of the installed package's library: the instruction set it chose, and those it has.
_LIBRARY = """
import ctypes, importlib.util, pathlib
found = pathlib.Path(importlib.util.find_spec("letter_fast").origin).parent
assert "site-packages" in str(found), found
library = ctypes.CDLL(str(found / "kernels/cpp/native.so"))
library.lf_instruction_sets.restype = ctypes.c_char_p
names = library.lf_instruction_sets().decode().split()
print(names[library.lf_instruction_set()], *names)
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
_TESTS = ["ops", "losses", "model", "tokenization", "test_quantizer.py"]
_TESTS += [f"kernels/test_{name}.py" for name in ("residual_search", "transport", "groups")]


class Result(NamedTuple):
    """Result of one Python with the wheel."""

    python: str
    compiler: str
    library: str
    tests: str


def main(folder: str, *pythons: str) -> None:
    # A Mac's machine is called arm64, another ARM one aarch64.
    (wheel,) = Path(folder).resolve().glob(f"*{platform.machine()}.whl")
    library_only = "--library-only" in pythons
    results = []
    for python in (one for one in pythons if not one.startswith("--")):
        with tempfile.TemporaryDirectory() as place:
            results.append(_check(wheel, python, Path(place), library_only))
    print(f"\n{wheel.name}\n\n| Python | compiler | native library | tests |\n|---|---|---|---|")
    for result in results:
        print(f"| {' | '.join(result)} |")


def _check(wheel: Path, python: str, place: Path, library_only: bool) -> Result:
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
            command, cwd=place, env=variables, stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{done.stdout[-4000:]}\n{' '.join(map(str, command))}: {done.returncode}")
        return done.stdout.strip()

    def run_python(code: str) -> str:
        return run(programs / "python", "-W", "error", "-I", "-c", code)

    pip = [programs / "python", "-m", "pip", "install", "--quiet"]
    run(*pip, *(["--no-deps"] if library_only else []), str(wheel))
    version = run_python("import platform; print(platform.python_version())")
    compilers = [name for name in ("c++", "g++", "clang++") if shutil.which(name, path=programs)]
    used, *sets = run_python(_LIBRARY).split()
    expected = runs_here(sets)
    if expected is not None and used != expected[-1]:
        sys.exit(f"the library runs {used}, this processor has {expected[-1]}")
    print(f"== Python {version}: {used}", flush=True)
    tests = "library only"
    if not library_only:
        print(run(programs / "letter-fast", "--version"))
        print(run_python(_CODES))
        print(run(programs / "letter-fast", "env"))
        said = run(programs / "letter-fast", "quickstart", "--out", "made").splitlines()
        print(next(line for line in said if "after collisions were resolved" in line), flush=True)
        run(*pip, "pytest>=8", "hypothesis>=6.100")
        shutil.copytree(ROOT / "tests", place / "tests")
        shutil.copy(ROOT / "pyproject.toml", place)
        pytest = [programs / "python", "-m", "pytest", "--color=no", "-m", "not slow"]
        tests = re.sub(
            r"=+ *| in [\d.:s ()]*$",
            "",
            run(*pytest, *(f"tests/{name}" for name in _TESTS)).splitlines()[-1],
        ).strip()
        print(tests, flush=True)
    return Result(version, " ".join(compilers) or "none", used, tests)


if __name__ == "__main__":
    main(*sys.argv[1:])
