"""The invariants of balanced assignment's repair hold before every path, and a fault breaks one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from letter_fast.kernels import cpp
from letter_fast.kernels.cpp import library
from tests.support import oracle

SOURCES = Path(__file__).parents[3] / "kernels/cpp"
COMPILER = shutil.which("g++") or shutil.which("clang++")
FLAGS = [
    "-std=c++17",
    "-O1",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-pthread",
    "-DLF_CHECKED",
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler"),
]


def compiled(source: Path, to: Path) -> str:
    command = [str(COMPILER), *FLAGS, f"-I{SOURCES}", "-c", str(source), "-o", str(to)]
    subprocess.run(command, check=True)
    return str(to)


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Source -> object, of all that the assignment needs."""
    folder = tmp_path_factory.mktemp("objects")
    sources = [SOURCES / "balanced_lloyd.cpp", SOURCES / "residual_search.cpp"]
    for name in ("search", "assignment", "runtime"):
        sources += (SOURCES / name).glob("*.cpp")
    return {source.name: compiled(source, folder / f"{source.stem}.o") for source in sources}


Load = Callable[..., None]


@pytest.fixture
def loaded(objects: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Puts a library that checks itself in the real one's place, one text of a file left out."""

    def load(name: str = "", fault: str = "") -> None:
        chosen, built = dict(objects), tmp_path / "checked.so"
        if name:
            text = (SOURCES / "assignment" / name).read_text()
            assert fault in text
            (tmp_path / name).write_text(text.replace(fault, "", 1))
            chosen[name] = compiled(tmp_path / name, tmp_path / "faulty.o")
        link = [str(COMPILER), "-shared", "-pthread", *chosen.values(), "-o", str(built)]
        subprocess.run(link, check=True)
        found = library.opened(built)
        monkeypatch.setattr(library, "load", lambda: found)
        monkeypatch.setenv("LETTER_FAST_INSTRUCTION_SET", "portable")
        for cached in (library._entry, library._record):
            monkeypatch.setattr(library, cached.__name__, cached.__wrapped__)

    return load


Problem = tuple[Tensor, Tensor, Tensor, Tensor]


def problems() -> list[Problem]:
    """Rows, centroids, sizes: all pairs as arcs, then few of them, then a crowd that must leave."""
    found = []
    for rows, clusters, low, high in [(200, 10, 20, 20), (200, 10, 5, 30), (1400, 50, 20, 32)]:
        x = oracle.clustered(rows, 6, 5, seed=rows)
        found.append((x, x[:clusters], low, high))
    crowd = torch.cat([oracle.clustered(60, 3, 1, seed=3), 50 + oracle.clustered(4, 3, 1, seed=4)])
    found.append((crowd, torch.cat([crowd[:1], crowd[60:]]), 12, 13))
    return [
        (x[None], words[None].contiguous(), *(torch.full((len(words),), n) for n in sizes))
        for x, words, *sizes in found
    ]


def test_invariants_hold_before_every_path(loaded: Load) -> None:
    plain = [cpp.balanced_lloyd(*each, 3, 0.0, 20) for each in problems()]
    loaded()
    for each, expected in zip(problems(), plain):
        for found, wanted in zip(cpp.balanced_lloyd(*each, 3, 0.0, 20), expected):
            assert torch.equal(found, wanted)


@pytest.mark.parametrize(
    ("name", "fault", "invariant"),
    [
        ("repair.cpp", "excess_[end] += amount;", "invariant [13]"),
        ("repair.cpp", "flow_[step.from] += amount;", "invariant [13]"),
        ("repair.cpp", "if (step.to != sink_) members_.renew(step.to);", "invariant 5"),
        (
            "potentials.cpp",
            "if (paths.final(node)) now_[node] += std::max(raised - paths.distance(node), 0.0);",
            "invariant",
        ),
    ],
)
def test_a_fault_breaks_an_invariant(name: str, fault: str, invariant: str, loaded: Load) -> None:
    loaded(name, fault)
    with pytest.raises(RuntimeError, match=f"balanced_lloyd failed: {invariant}"):
        for each in problems():
            cpp.balanced_lloyd(*each, 3, 0.0, 20)
