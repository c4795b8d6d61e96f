"""The machine of a measurement: the facts without which a figure means nothing."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from contextlib import suppress
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from letter_fast import kernels

_LIBRARIES = (
    "torch",
    "triton",
    "numpy",
    "faiss-cpu",
    "vector-quantize-pytorch",
    "rectokens",
    "flash-kmeans",
    "k-means-constrained",
    "letter-fast",
)
_INSTRUCTIONS = re.compile(r"avx2|fma|avx512\w*|avx_vnni|amx_\w+|asimd\w*|sve\w*")


def facts(device: torch.device) -> dict[str, Any]:
    """Processor, GPU, versions, commit, date and load, as JSON holds them."""
    found: dict[str, Any] = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": _git("status", "--porcelain", "--untracked-files=no") != "",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu("model name") or platform.processor(),
        "family_and_model": [_cpu("cpu family"), _cpu("model")],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "instructions": sorted(set(_INSTRUCTIONS.findall(_cpu("flags") or _cpu("Features")))),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "libraries": _versions(),
        "blas": "MKL" if torch.backends.mkl.is_available() else "other",
        "backend": kernels.pick(device).__name__.rsplit(".", 1)[-1],
    }
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        found["gpu"] = {
            "name": card.name,
            "multiprocessors": card.multi_processor_count,
            "memory": card.total_memory,
            "capability": f"{card.major}.{card.minor}",
            "cuda": torch.version.cuda or torch.version.hip,
        }
    return found


def sentence(found: dict[str, Any]) -> str:
    """The facts that belong beside a table."""
    where = found["cpu"] + f", {found['cores']} cores ({' '.join(found['instructions'])})"
    if "gpu" in found:
        where = f"{found['gpu']['name']}, CUDA {found['gpu']['cuda']}"
    load = f", load average {found['load_average'][0]:.1f}" if found["load_average"] else ""
    commit = f", commit {found['commit'][:10]}" if found["commit"] else ""
    torch_version = found["libraries"]["torch"]
    backend = found["backend"]
    return f"{where}; torch {torch_version}, backend {backend}; {found['date'][:16]}{commit}{load}"


def name(device: torch.device) -> str:
    """The machine's name as a file name, such as nvidia-h100-80gb-hbm3.

    A hosted x86 processor hides its generation ("AMD EPYC"); family and model tell it.
    """
    if device.type == "cuda":
        full = torch.cuda.get_device_name(device)
    else:
        full = _cpu("model name")
        if family := _cpu("cpu family"):
            full += f" family {family} model {_cpu('model')}"
    return re.sub(r"[^a-z0-9]+", "-", (full or platform.machine()).lower()).strip("-")


def _versions() -> dict[str, str]:
    found = {}
    for library in _LIBRARIES:
        with suppress(PackageNotFoundError):
            found[library] = version(library)
    return found


def _cpu(key: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return next((value.strip() for name, value in pairs if name.strip() == key), "")


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(Path(__file__).resolve().parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
