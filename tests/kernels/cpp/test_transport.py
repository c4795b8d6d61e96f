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
def others(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Objects of all that the assignment needs but for transport.cpp."""
    folder = tmp_path_factory.mktemp("objects")
    sources = [SOURCES / "balanced_lloyd.cpp", SOURCES / "residual_search.cpp"]
    for name in ("search", "assignment", "runtime"):
        sources += [path for path in (SOURCES / name).glob("*.cpp") if path.stem != "transport"]
    return [compiled(source, folder / f"{source.stem}.o") for source in sources]


Load = Callable[..., None]


@pytest.fixture
def loaded(others: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Puts a library that checks itself in the real one's place, one text replaced in it."""

    def load(replace: str = "", by: str = "") -> None:
        text = (SOURCES / "assignment/transport.cpp").read_text()
        assert replace in text
        source, built = tmp_path / "transport.cpp", tmp_path / "checked.so"
        source.write_text(text.replace(replace, by, 1))
        objects = [*others, compiled(source, tmp_path / "transport.o")]
        link = [str(COMPILER), "-shared", "-pthread", *objects, "-o", str(built)]
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
    ("fault", "invariant"),
    [
        ("excess_[end] += amount;", "invariant [13]"),
        ("flow_[move.from] += amount;", "invariant [13]"),
        ("if (move.to != sink_) renew_edges(move.to);", "invariant 5"),
        ("if (final_[node]) potential_[node] += std::max(raised - distance_[node], 0.0);", "inv"),
    ],
)
def test_a_fault_breaks_an_invariant(fault: str, invariant: str, loaded: Load) -> None:
    loaded(fault, "")
    with pytest.raises(RuntimeError, match=f"balanced_lloyd failed: {invariant}"):
        for each in problems():
            cpp.balanced_lloyd(*each, 3, 0.0, 20)
