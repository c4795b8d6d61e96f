"""The package's surroundings: versions, backend and the OpenMP runtimes that are loaded."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("torch", "triton", "numpy", "scipy", "pyarrow", "transformers")
_RUNTIMES = ("libgomp", "libomp", "libiomp")


def describe() -> dict[str, str | list[str]]:
    """Facts for a bug report, by name; packages that are absent are left out.

    Loads torch and the native library, as any use of the package does.
    """
    import torch

    from letter_fast import __version__, kernels

    found: dict[str, str | list[str]] = {
        "letter-fast": __version__,
        "Python": f"{platform.python_version()}, {platform.platform()}",
    }
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    found["CPU kernels"] = kernels.cpu_kernels()
    if torch.cuda.is_available():
        found["GPU"] = [
            torch.cuda.get_device_name(device) for device in range(torch.cuda.device_count())
        ]
    found["threads"] = str(torch.get_num_threads())
    found["OpenMP runtimes"] = openmp_runtimes()
    return found


def openmp_runtimes() -> list[str]:
    """Paths of the OpenMP runtimes in this process, sorted; none where Linux's /proc is absent."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    paths = {line.split(maxsplit=5)[5] for line in lines if "/" in line}
    return sorted(path for path in paths if Path(path).name.startswith(_RUNTIMES))
