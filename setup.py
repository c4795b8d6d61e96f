"""Package layout and the native library; everything else stands in pyproject.toml.

`kernels/` installs as `letter_fast.kernels`, `bench/` as `letter_fast.bench`. The C++ part is one
shared library behind a C ABI, loaded with ctypes: it needs neither torch nor Python headers to
build, and one binary serves every torch. Its kernels are compiled once per instruction set; ninja
builds only what changed. A machine where that fails, whatever the reason, still gets a working
package (the reference backend) and one warning.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from sysconfig import get_platform

from setuptools import Extension, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

SOURCES = Path("kernels/cpp").resolve()
# For developers, by LETTER_FAST_BUILD; see the Makefile.
VARIANTS: dict[str, list[str]] = {
    "release": [],
    "sanitize": ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
    # The AVX-512 kernels on any processor, their intrinsics emulated.
    "emulate": ["-DLF_EMULATED"],
}
VARIANT = os.environ.get("LETTER_FAST_BUILD", "release")
FLAGS = [
    *("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-Wall", "-Wextra"),
    # Fused multiply-adds only where written: the same bits from every instruction set.
    "-ffp-contract=off",
    "-pthread",
    # `#pragma omp simd` only, which needs no runtime; the threads are those of parallel.cpp.
    "-fopenmp-simd",
    *VARIANTS[VARIANT],
]

# A kernel that some instruction set lacks fails here, and not where it is first called: a Mac's
# linker is as strict by itself, and the sanitizers' own functions come with the program.
LINK = ["-pthread", *VARIANTS[VARIANT]]
if VARIANT != "sanitize" and not get_platform().startswith("macosx"):
    LINK.append("-Wl,-z,defs")

# Instruction set -> flags, from the narrowest to the widest. A source that defines something in the
# set's own namespace is compiled once for each; the others are compiled once.
PER_SET = "namespace lf::LF_INSTRUCTION_SET {"
SETS: dict[str, list[str]] = {"portable": []}
if get_platform().endswith(("-x86_64", "-amd64")):
    FLAGS.append("-DLF_X86")
    # GCC 12 warns of its own AVX-512 headers, in words that clang doesn't know.
    quiet = ["-Wno-unknown-warning-option", "-Wno-uninitialized", "-Wno-maybe-uninitialized"]
    avx512 = [*quiet, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mf16c"]
    vnni = ["-mavx512vnni", *avx512]
    if VARIANT == "emulate":
        avx512 = vnni = ["-mfma", "-include", str(Path("tests/native/avx512_emulated.h").resolve())]
    SETS |= {
        "avx2": ["-DLF_AVX2", "-mavx2", "-mfma", "-mf16c"],
        "avx512": ["-DLF_AVX512", *avx512],
        "avx512_vnni": ["-DLF_AVX512_VNNI", *vnni],
    }
elif get_platform().endswith(("-aarch64", "-arm64")):
    FLAGS.append("-DLF_ARM")
    # Zig takes processors only, and GCC extensions only of an architecture that has them.
    least = "-mcpu=generic" if "zig" in os.environ.get("CXX", "") else "-march=armv8.2-a"
    SETS |= {
        "neon": ["-DLF_NEON"],
        "neon_dotprod": ["-DLF_NEON_DOTPROD", f"{least}+dotprod"],
        "neon_i8mm": ["-DLF_NEON_I8MM", f"{least}+dotprod+i8mm"],
    }


def objects() -> dict[str, tuple[Path, list[str]]]:
    """Object -> source and flags of its own, in the order of the link.

    That is from the narrowest set to the widest: of inline code that several objects bring along,
    the linker keeps the first copy, which has to run on every processor.
    """
    sources = sorted(SOURCES.rglob("*.cpp"))
    kernels = [path for path in sources if PER_SET in path.read_text(encoding="utf-8")]
    name = {path: path.relative_to(SOURCES).with_suffix("").as_posix() for path in sources}
    once: dict[str, tuple[Path, list[str]]] = {
        f"{name[path]}.o": (path, []) for path in sources if path not in kernels
    }
    per_set = {
        f"{name[path]}_{set_}.o": (path, flags) for set_, flags in SETS.items() for path in kernels
    }
    return {**once, **per_set}


def ninja_command() -> list[str]:
    """The command that starts ninja; FileNotFoundError where it is not installed."""
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
    lines = [
        f"flags = {' '.join(FLAGS)} -I{shlex.quote(str(SOURCES)).replace('$', '$$')}",
        "rule compile",
        f"  command = {command} $flags $extra -MMD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule link",
        f"  command = {command} -shared {' '.join(LINK)} -o $out $in",
    ]
    for name, (source, flags) in objects().items():
        lines += [f"build {name}: compile {escaped(source)}", f"  extra = {' '.join(flags)}"]
    target = escaped(library)
    lines += [f"build {target}: link {' '.join(objects())}", f"default {target}", ""]
    return "\n".join(lines)


class BuildNative(build_ext):
    """Builds `letter_fast/kernels/cpp/native.so` through ninja."""

    ninja: list[str] | None = None

    def copy_extensions_to_source(self) -> None:
        """Of a checkout, where clangd looks for the commands in build/."""
        super().copy_extensions_to_source()
        if self.ninja:
            commands = subprocess.check_output([*self.ninja, "-t", "compdb", "compile"])
            Path("build").mkdir(exist_ok=True)
            Path("build/compile_commands.json").write_bytes(commands)

    def get_ext_filename(self, fullname: str) -> str:
        return os.path.join(*fullname.split(".")) + ".so"

    def build_extension(self, ext: Extension) -> None:
        library = Path(self.get_ext_fullpath(ext.name)).resolve()
        folder = Path(self.build_temp).resolve()
        library.parent.mkdir(parents=True, exist_ok=True)
        # That of an earlier build may be of other sources, and running programs may have it open.
        library.unlink(missing_ok=True)
        try:
            self.ninja = build(library, folder)
        except (OSError, subprocess.CalledProcessError) as error:
            library.unlink(missing_ok=True)
            warn(
                f"the C++ kernels were not built ({error}); the CPU will use the slower reference "
                "backend"
            )


def build(library: Path, folder: Path) -> list[str]:
    """Compiles the kernels in a folder of `folder` that these flags and compiler alone use.

    -> the command that ninja was called by
    Raises:
        OSError, CalledProcessError: compiler or ninja are absent, or failed.
    """
    compiler = compiler_command()
    version = subprocess.run([*compiler, "--version"], capture_output=True, check=False).stdout
    key = hashlib.sha256(repr((version, compiler, FLAGS, SETS)).encode()).hexdigest()[:12]
    ninja = [*ninja_command(), "-C", str(folder / key)]
    (folder / key).mkdir(parents=True, exist_ok=True)
    (folder / key / "build.ninja").write_text(ninja_file(compiler, library), encoding="utf-8")
    subprocess.run(ninja, check=True)
    if not library.is_file():
        raise FileNotFoundError(f"{shlex.join(compiler)} wrote no {library.name}")
    return ninja


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
        "letter_fast.kernels.cpp": ["*.cpp", "*.h", "*/*.cpp", "*/*.h"],
    },
    ext_modules=[Extension("letter_fast.kernels.cpp.native", sources=[], optional=True)],
    cmdclass={"build_ext": BuildNative, "bdist_wheel": AnyPython},
)
