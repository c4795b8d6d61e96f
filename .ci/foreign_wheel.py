"""Names a wheel that was built for another machine by the platform that its library needs.

python .ci/foreign_wheel.py build/wheels/WHEEL dist manylinux_2_28_aarch64

What auditwheel does for this machine's own: the library may need nothing but what that platform
promises. It must be there, for a compiler that fails leaves a wheel without one.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

_LIBRARY = "letter_fast/kernels/cpp/native.so"
# Of the libraries that every manylinux has, those of the C library.
_ALLOWED = re.compile(r"(libc|libm|libpthread|libdl|librt)\.so\.\d|ld-linux-.*\.so\.\d")


def main(wheel: str, folder: str, platform: str) -> None:
    try:
        content = zipfile.ZipFile(wheel).read(_LIBRARY)
    except KeyError:
        sys.exit(f"{wheel} holds no {_LIBRARY}: its compiler failed")
    if platform.startswith("manylinux"):
        _check_linux(content, platform)
    else:
        _check_mac(content)
    tags = [sys.executable, "-m", "wheel", "tags", "--platform-tag", platform, wheel]
    named = subprocess.run(tags, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1]
    shutil.move(Path(wheel).with_name(named), Path(folder) / named)


def _check_linux(content: bytes, platform: str) -> None:
    *_, major, minor, machine = platform.split("_", 3)
    newest = (int(major), int(minor))
    elf = ELFFile(io.BytesIO(content))
    if elf["e_machine"] != {"aarch64": "EM_AARCH64", "x86_64": "EM_X86_64"}[machine]:
        sys.exit(f"the library is for {elf['e_machine']}, not for {machine}")
    needed = [tag.needed for tag in elf.get_section_by_name(".dynamic").iter_tags("DT_NEEDED")]
    if other := [name for name in needed if not _ALLOWED.fullmatch(name)]:
        sys.exit(f"the library needs {', '.join(other)}")
    versions = set()
    for section in elf.iter_sections():
        if isinstance(section, GNUVerNeedSection):
            versions |= {aux.name for _, group in section.iter_versions() for aux in group}
    late = sorted(name for name in versions if _number(name) > newest)
    if late:
        sys.exit(f"the library needs {', '.join(late)}, later than {platform}")
    print(f"{platform}: needs {', '.join(needed)}; {', '.join(sorted(versions, key=_number))}")


def _number(version: str) -> tuple[int, ...]:
    """(2, 17) of GLIBC_2.17."""
    return tuple(int(part) for part in version.partition("_")[2].split("."))


def _check_mac(content: bytes) -> None:
    # Mach-O of 64 bits, arm64, a dynamic library.
    kind = [int.from_bytes(content[at : at + 4], "little") for at in (0, 4, 12)]
    if kind != [0xFEEDFACF, 0x0100000C, 6]:
        sys.exit(f"the library is no dynamic library of an ARM Mac: {kind}")


if __name__ == "__main__":
    main(*sys.argv[1:])
