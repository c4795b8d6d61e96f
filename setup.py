"""Package layout and the native library; everything else stands in pyproject.toml.

`kernels/` installs as `letter_fast.kernels`, `bench/` as `letter_fast.bench`. The C++ part is one
shared library behind a C ABI, loaded with ctypes: it needs neither torch nor Python headers to
build, and one binary serves every torch. Its kernels are compiled once per instruction set; ninja
builds only what changed. A machine where that fails, whatever the reason, still gets a working
package (the reference backend) and one warning.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

SOURCES = Path("kernels/cpp")
COMMON = [
    "-std=c++17",
    "-O3",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-math-errno",
    # Fused multiply-adds only where written: the same bits from every instruction set.
    "-ffp-contract=off",
    "-pthread",
    # `#pragma omp simd` only, which needs no runtime; the threads are those of parallel.cpp.
    "-fopenmp-simd",
    "-Wall",
    "-Wextra",
]

# For developers, by LETTER_FAST_BUILD; see the Makefile.
VARIANTS: dict[str, list[str]] = {
    "release": [],
    "sanitize": ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
    # The AVX-512 kernels on any processor, their intrinsics emulated.
    "emulate": ["-DLF_EMULATED"],
}
VARIANT = os.environ.get("LETTER_FAST_BUILD", "release")

# Instruction set -> flags. Its kernels are compiled once for each, into a namespace of its own.
SETS: dict[str, list[str]] = {"portable": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    # GCC 12 warns of its own AVX-512 headers.
    quiet = ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]
    avx512 = [*quiet, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mf16c"]
    vnni = ["-mavx512vnni", *avx512]
    if VARIANT == "emulate":
        avx512 = vnni = ["-mfma", "-include", str(Path("tests/native/avx512_emulated.h").resolve())]
    SETS |= {
        "avx2": ["-DLF_AVX2", "-mavx2", "-mfma", "-mf16c"],
        "avx512": ["-DLF_AVX512", *avx512],
        "avx512_vnni": ["-DLF_AVX512_VNNI", *vnni],
    }
KERNELS = (
    "residual_search",
    "residual_search_beam",
    "within",
    "plus_plus",
    "distances",
    "residual_losses",
    "softmax",
    "sinkhorn_codes",
    "code_sums",
    "still_nearest",
)

ENTRIES = (
    "library",
    "balanced_entry",
    "transport_entry",
    "plus_plus_entry",
    "distinct_codes",
    "spill_codes",
    "contrastive_entry",
    "diversity_entry",
    "residual_losses_entry",
    "sinkhorn_codes_entry",
    "code_sums_entry",
    "still_nearest_entry",
)
DISPATCH = ["-DLF_X86"] if "avx2" in SETS else []

# Object -> (source, extra flags). Entries hold the C ABI and pick an instruction set.
# The order is that of the link, from the narrowest set to the widest: of inline code that several
# objects bring along, the linker keeps the first copy, which has to run on every processor.
OBJECTS: dict[str, tuple[str, list[str]]] = {
    **{name: (f"{name}.cpp", DISPATCH) for name in ENTRIES},
    "parallel": ("parallel.cpp", []),
    "pack": ("pack.cpp", []),
    "exact": ("exact.cpp", []),
    "transport": ("transport.cpp", []),
    "balanced": ("balanced.cpp", []),
    **{
        f"{name}_{set_}": (f"{name}.cpp", flags) for set_, flags in SETS.items() for name in KERNELS
    },
}


def ninja_command() -> list[str]:
    """How ninja is called; FileNotFoundError where it is not installed."""
    if found := shutil.which("ninja"):
        return [found]
    if find_spec("ninja") is None:
        raise FileNotFoundError("ninja is not installed: pip install ninja")
    return [sys.executable, "-m", "ninja"]


def compiler_command() -> list[str]:
    """CXX, which may carry arguments ("ccache g++"), or the first compiler that is found."""
    return shlex.split(os.environ.get("CXX", "")) or [
        shutil.which("g++") or shutil.which("clang++") or "c++"
    ]


def warn(message: str) -> None:
    print(f"warning: letter-fast: {message}", file=sys.stderr)


def escaped(path: Path) -> str:
    """A path as ninja reads it."""
    return re.sub(r"([$ :])", r"$\1", str(path))


def ninja_file(compiler: list[str], library: Path) -> str:
    """The whole build as ninja text: one edge an object, one for the link."""
    command = shlex.join(compiler).replace("$", "$$")
    link = " ".join(["-shared", "-pthread", *VARIANTS[VARIANT]])
    flags = " ".join([*COMMON, *VARIANTS[VARIANT]])
    source, target = escaped(SOURCES.resolve()), escaped(library)
    lines = [
        f"flags = {flags}",
        "rule compile",
        f"  command = {command} $flags $extra -MMD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule link",
        f"  command = {command} {link} -o $out $in",
    ]
    for name, (file, extra) in OBJECTS.items():
        lines += [f"build {name}.o: compile {source}/{file}", f"  extra = {' '.join(extra)}"]
    objects = " ".join(f"{name}.o" for name in OBJECTS)
    lines += [f"build {target}: link {objects}", f"default {target}", ""]
    return "\n".join(lines)


class BuildNative(build_ext):
    """Builds `letter_fast/kernels/cpp/native.so` through ninja."""

    def get_ext_filename(self, fullname: str) -> str:
        return os.path.join(*fullname.split(".")) + ".so"

    def build_extension(self, ext: Extension) -> None:
        library = Path(self.get_ext_fullpath(ext.name)).resolve()
        folder = Path(self.build_temp).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        library.parent.mkdir(parents=True, exist_ok=True)
        # That of an earlier build may be of other sources, and running programs may have it open.
        library.unlink(missing_ok=True)
        try:
            build(library, folder)
        except (OSError, subprocess.CalledProcessError) as error:
            library.unlink(missing_ok=True)
            warn(
                f"the C++ kernels were not built ({error}); the CPU will use the slower reference "
                "backend"
            )


def build(library: Path, folder: Path) -> None:
    """Compiles the kernels in `folder` and links `library`.

    Raises:
        OSError, CalledProcessError: compiler or ninja are absent, or failed.
    """
    compiler = compiler_command()
    (folder / "build.ninja").write_text(ninja_file(compiler, library))
    subprocess.run([*ninja_command(), "-C", str(folder)], check=True)
    if not library.is_file():
        raise FileNotFoundError(f"{shlex.join(compiler)} wrote no {library.name}")


class AnyPython(bdist_wheel):
    """One wheel for all Pythons of a platform: ctypes loads the library, whatever their ABI."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


# Links of the checkout to folders that are packages of their own.
LINKED = ["letter_fast.bench*", "letter_fast.kernels*"]

setup(
    packages=[
        *find_packages(include=["letter_fast", "letter_fast.*"], exclude=LINKED),
        "letter_fast.bench",
        "letter_fast.bench.recommend",
        "letter_fast.kernels",
        *(f"letter_fast.kernels.{name}" for name in find_packages("kernels")),
    ],
    package_dir={"letter_fast.bench": "bench", "letter_fast.kernels": "kernels"},
    package_data={
        "letter_fast": ["py.typed"],
        "letter_fast.demo.shop": ["*.txt"],
        "letter_fast.kernels.cpp": ["*.cpp", "*.h"],
    },
    ext_modules=[Extension("letter_fast.kernels.cpp.native", sources=[], optional=True)],
    cmdclass={"build_ext": BuildNative, "bdist_wheel": AnyPython},
)
