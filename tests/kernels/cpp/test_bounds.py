"""Each error bound of the C++ kernels is needed: made too small, a code comes out wrong."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from letter_fast.kernels import cpp
from letter_fast.kernels.cpp import library
from tests.support import oracle

SOURCES = Path(__file__).parents[3] / "kernels/cpp"
COMPILER = shutil.which("g++") or shutil.which("clang++")
# `enum class Bound` of bounds.h.
BOUNDS = ("screen", "float32", "float64", "movement", "distance", "others", "slack", "extension")
OPERATIONS = ("residual_search", "residual_search_beam", "nearest_bounded", "balanced_lloyd")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler"),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The portable kernels, whose bounds can be weakened."""
    path = tmp_path_factory.mktemp("weak") / "weak.so"
    flags = "-std=c++17 -O1 -fPIC -shared -fvisibility=hidden -fno-math-errno -ffp-contract=off"
    shared = (
        part
        for name in ("search", "assignment", "runtime")
        for part in (SOURCES / name).glob("*.cpp")
    )
    sources = [*(SOURCES / f"{name}.cpp" for name in OPERATIONS), *shared]
    options = [*flags.split(), "-pthread", "-DLF_WEAK_BOUNDS", f"-I{SOURCES}"]
    subprocess.run([str(COMPILER), *options, *map(str, sources), "-o", str(path)], check=True)
    return path


Weaken = Callable[[str, float], None]


@pytest.fixture
def weaken(built: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Weaken]:
    """Multiplies a bound of the library, which stands in for the real one, by a factor."""
    found = library.opened(built)
    found.lf_weaken.argtypes = [ctypes.c_int32, ctypes.c_double]
    monkeypatch.setattr(library, "load", lambda: found)
    monkeypatch.setenv("LETTER_FAST_INSTRUCTION_SET", "portable")
    for cached in (library._entry, library._record):
        monkeypatch.setattr(library, cached.__name__, cached.__wrapped__)
    yield lambda name, factor: found.lf_weaken(BOUNDS.index(name), factor)
    for name in range(len(BOUNDS)):
        found.lf_weaken(name, 1.0)


def test_every_bound_is_tested_here() -> None:
    text = (SOURCES / "runtime/bounds.h").read_text()
    names = text.split("enum class Bound {")[1].split("};")[0].splitlines()
    assert tuple(line.split(",")[0].strip() for line in names if line.strip()) == BOUNDS
    uses = "".join(
        path.read_text() for path in SOURCES.rglob("*.*") if path.suffix in (".h", ".cpp")
    )
    assert all(f"tested(Bound::{name}, " in uses for name in BOUNDS)


def same_distances(groups: int, each: int = 2) -> tuple[Tensor, Tensor, list[int]]:
    """Codewords in groups of the same elements in another order, rows of equal elements: as near to
    one as to the others, whatever the sums' rounding says. -> rows, codewords, nearest of each row
    """
    generator = torch.Generator().manual_seed(1)
    first = torch.randn(groups, 24, generator=generator)
    orders = [torch.arange(24).expand(groups, 24)]
    for _ in range(each - 1):
        order = [torch.randperm(24, generator=generator) for _ in range(groups)]
        orders.append(torch.stack(order))
    words = torch.stack([first.gather(1, order) for order in orders], dim=1).flatten(0, 1)
    x = torch.randn(400, 1, generator=generator).expand(400, 24).contiguous()
    return x, words, oracle.nearest(x, words)


def test_a_screen_too_sure(weaken: Weaken) -> None:
    x, words = oracle.clustered(500, 32, 8, seed=1), oracle.clustered(256, 32, 8, seed=2)
    expected = oracle.nearest(x, words)
    assert cpp.nearest(x, words, None)[0].tolist() == expected
    beam = cpp.residual_search_beam(x, torch.cat([words, words]), [256, 256], 4)[0]
    weaken("screen", 0.01)
    assert cpp.nearest(x, words, None)[0].tolist() != expected
    other = cpp.residual_search_beam(x, torch.cat([words, words]), [256, 256], 4)[0]
    assert not torch.equal(other, beam)


@pytest.mark.parametrize("name", ["float32", "float64"])
def test_scores_too_sure(name: str, weaken: Weaken) -> None:
    x, words, expected = same_distances(20)
    assert cpp.nearest(x, words, None)[0].tolist() == expected
    weaken(name, 0.0)
    assert cpp.nearest(x, words, None)[0].tolist() != expected


@pytest.mark.parametrize("name", ["float32", "float64"])
def test_scores_too_sure_with_margins(name: str, weaken: Weaken) -> None:
    # Float64 decides between two codewords in any case: float32 has to be wrong about the third.
    x, words, expected = same_distances(20, each=3)

    def found() -> list[int]:
        codes: list[int] = cpp.residual_search(x, words, [60], with_margins=True)[0][:, 0].tolist()
        return codes

    assert found() == expected
    weaken(name, 0.0)
    assert found() != expected


def test_codewords_that_moved_further_than_believed(weaken: Weaken) -> None:
    x, before = oracle.clustered(600, 8, 4, seed=3), oracle.clustered(20, 8, 4, seed=4)
    distances = (x[:, None].double() - before.double()).norm(dim=2)
    codes, bounds = distances.argmin(1), distances.topk(2, largest=False).values[:, 1]
    moved = before + 0.3 * torch.randn(20, 8, generator=torch.Generator().manual_seed(5))
    movement = (moved - before).norm(dim=1) * 1.001
    arguments = (x, moved, codes, bounds.float() * 0.999, movement)
    expected = oracle.nearest(x, moved)
    assert cpp.nearest_bounded(*arguments)[0].tolist() == expected
    weaken("movement", 0.01)
    assert cpp.nearest_bounded(*arguments)[0].tolist() != expected


def test_a_far_codeword_s_distance_too_sure(weaken: Weaken) -> None:
    """Of 64 codewords two may move far; a row's distances to these are computed, and are equal."""
    x, words, expected = same_distances(1)
    words = torch.cat([words, 1e3 + torch.arange(62.0)[:, None] * torch.ones(62, 24)])
    movement = torch.zeros(64)
    movement[:2] = 1e6
    codes = 1 - torch.tensor(expected)
    bounds = torch.full((400,), 1e3)
    arguments = (x, words, codes, bounds, movement)
    assert cpp.nearest_bounded(*arguments)[0].tolist() == expected
    weaken("distance", 0.0)
    assert cpp.nearest_bounded(*arguments)[0].tolist() != expected


def test_other_codewords_nearer_than_believed(weaken: Weaken) -> None:
    """Far from 0 a float32 score errs by more than distances differ. Who believes the bound keeps a
    codeword that moved away nearly as far, though another one is nearer."""
    x, words = 300 + oracle.clustered(200, 8, 4, seed=6), 300 + oracle.clustered(64, 8, 4, seed=7)

    def kept() -> tuple[list[int], list[int]]:
        """Each row's code once its codeword has moved, and what it should be."""
        unknown, nothing = torch.full((200,), -1), torch.zeros(200)
        codes, _, bounds = cpp.nearest_bounded(x, words, unknown, nothing, torch.zeros(64))
        found, expected = [], []
        for row, code, bound in zip(x.split(1), codes.tolist(), bounds.tolist()):
            moved, movement = words.clone(), torch.zeros(64)
            moved[code], movement[code] = row[0], 1e3
            moved[code, 0] += 0.999 * bound
            known = (torch.tensor([code]), torch.tensor([bound]), movement)
            found += cpp.nearest_bounded(row, moved, *known)[0].tolist()
            expected += oracle.nearest(row, moved)
        return found, expected

    found, expected = kept()
    assert found == expected
    weaken("others", 0.0)
    found, expected = kept()
    assert found != expected


def test_an_arc_too_few(weaken: Weaken) -> None:
    x = oracle.clustered(1400, 6, 5, seed=1400)[None]
    low, high = torch.full((50,), 20), torch.full((50,), 32)
    arguments = (x, x[:, :50].contiguous(), low, high, 1, 0.0, 20)
    _, labels, cost, bound = cpp.balanced_lloyd(*arguments)
    assert float(cost) <= float(bound) * (1 + 1e-12)
    weaken("slack", 0.0)
    _, other, dearer, _ = cpp.balanced_lloyd(*arguments)
    assert float(dearer) > float(cost)
    assert not torch.equal(other, labels)


def test_an_extension_too_short(weaken: Weaken) -> None:
    x = oracle.clustered(3000, 6, 5, seed=1401)[None]
    low, high = torch.full((64,), 30), torch.full((64,), 60)
    arguments = (x, x[:, :64].contiguous(), low, high, 1, 0.0, 20)
    _, labels, cost, bound = cpp.balanced_lloyd(*arguments)
    assert float(cost) <= float(bound) * (1 + 1e-12)
    weaken("extension", 0.0)
    _, other, dearer, _ = cpp.balanced_lloyd(*arguments)
    assert float(dearer) > float(cost)
    assert not torch.equal(other, labels)
