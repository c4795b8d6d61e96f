"""The things that prose names in this repository exist: files, tests, modules, names, commands.

Prose is a page outside of its blocks, a comment, a docstring. Links and their sections are those of
test_links.py.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.prose import PAGES, ROOT, SOURCES, text_of

# The changelog names what there was.
PROSE = {
    path.relative_to(ROOT).as_posix(): text_of(path).prose
    for path in [*PAGES, *SOURCES]
    if path.name != "CHANGELOG.md"
}
# Folders that a path may be relative to, besides that of who names it and the one above.
HOMES = [
    ROOT / name for name in (".", "kernels", "kernels/cpp", "letter_fast", "tests", "tests/kernels")
]
# Folders whose names a path of ours begins with.
OURS = {"bench", "docs", "examples", "kernels", "letter_fast", "notebooks", "tests"}
# Of other projects: sources, …
THEIR_FILES = {
    "generate_indices.py",
    "main.py",
    "rqkmeans_plus.py",
    "RQ-VAE/models/vq.py",
    "layers.py",
}
# … modules that one starts, …
THEIR_MODULES = {"sglang", "ziglang", "build"}
# … names.
THEIR_NAMES = {
    "OMP_WAIT_POLICY",
    "check_estimator",
    "get_input_embeddings",
    "processed_logprobs",
    "save_to_disk",
    "search_type",
    "update_indices",
}


@cache
def known_names() -> set[str]:
    """Every word of code, strings and settings, and every module and folder."""
    texts = [text_of(path).code for path in SOURCES]
    texts += [(ROOT / name).read_text() for name in ("Makefile", "pyproject.toml", ".ci/run")]
    names = {word for text in texts for word in re.findall(r"\w+", text)} | THEIR_NAMES
    return names | {path.stem for path in SOURCES} | {path.parent.name for path in SOURCES}


def lost_files(prose: str, place: Path) -> list[str]:
    """Sources and pages that `prose`, which stands in the folder `place`, names by their files."""
    named = re.findall(r"(?<![\w/.*<{$-])([\w/.-]+\.(?:py|h|cpp|md))\b(?:::(\w+))?", prose)
    return [
        f"{path}::{test}" if test else path
        for path, test in named
        if path not in THEIR_FILES and not is_there(path, test, place)
    ]


def is_there(path: str, test: str, place: Path) -> bool:
    found = [home / path for home in (*HOMES, place, place.parent) if (home / path).exists()]
    # Without a folder it may lie in any.
    found += [each for each in (*SOURCES, *PAGES) if "/" not in path and each.name == path]
    return any(f"def {test}(" in each.read_text() for each in found) if test else bool(found)


def lost_folders(prose: str) -> list[str]:
    named = re.findall(r"`([\w-]+/[\w/-]*)`", prose)
    return [
        path
        for path in named
        if path.split("/")[0] in OURS and not any((home / path).exists() for home in HOMES)
    ]


def lost_names(prose: str) -> list[str]:
    """Words in backticks that no code has: those with an underscore, or called."""
    named = re.findall(r"`([A-Za-z_][\w.]*_[\w.]*|[A-Za-z_][\w.]*(?=\())(?!\*)", prose)
    return [
        name
        for name in named
        if not known_names().issuperset(part for part in name.split(".") if "_" in part)
    ]


def lost_commands(prose: str) -> list[str]:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    lost = [f"make {name}" for name in re.findall(r"`make ([\w-]+)", prose) if name not in targets]
    for module in re.findall(r"python -m ([\w.]+\w)", prose):
        path = module.replace(".", "/")
        homes = [ROOT / f"{path}{end}" for end in (".py", "/__main__.py")]
        if module.split(".")[0] not in THEIR_MODULES and not any(home.exists() for home in homes):
            lost.append(f"python -m {module}")
    return lost


def lost_modules(prose: str) -> list[str]:
    """Dotted names of ours: folders, then a file, or what one of a folder's files defines."""
    named = re.findall(r"\b((?:letter_fast|bench)(?:\.[A-Za-z_]\w*)+)(?![\w/])", prose)
    return [name for name in named if not is_module(name.split("."))]


def is_module(parts: list[str]) -> bool:
    home = ROOT
    for part in parts:
        if not (home / part).is_dir():
            return (home / f"{part}.py").is_file() or part in known_names()
        home /= part
    return True


@pytest.mark.parametrize("name", PROSE)
def test_what_prose_names_is_there(name: str) -> None:
    prose = PROSE[name]
    assert not [
        *lost_files(prose, (ROOT / name).parent),
        *lost_folders(prose),
        *lost_names(prose),
        *lost_commands(prose),
        *lost_modules(prose),
    ]


def test_what_is_missing_is_found() -> None:
    assert not lost_files("tests/test_package.py, `score.py`, triton/score.py::split", ROOT)
    lost = ["tests/test_nothing.py", "nothing.h", "docs/nothing.md", "triton/score.py::nothing"]
    assert lost_files(", ".join(lost), ROOT) == lost
    assert lost_folders("`kernels/cpp`, `kernels/nothing`, `a/b`") == ["kernels/nothing"]
    missing = "no_such_" + "name"
    assert lost_names(f"`residual_search`, `{missing}`, `torch.{missing}(x)`, {missing}") == [
        missing,
        f"torch.{missing}",
    ]
    assert lost_commands(
        "`make test`, `make nothing`, python -m bench, python -m bench.nothing"
    ) == [
        "make nothing",
        "python -m bench.nothing",
    ]
    gone = f"letter_fast.kernels.{missing}"
    assert lost_modules(f"letter_fast.kernels, bench.kmeans, {gone}") == [gone]
