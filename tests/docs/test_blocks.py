"""Every block of code in README.md and docs/ runs as it stands, trainings for two epochs only."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from letter_fast.training import TrainSettings
from tests.docs import pages, reader

PEERS = ("transformers", "sklearn", "faiss", "ray", "matplotlib", "vector_quantize_pytorch")


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that every reader has."""
    folder = tmp_path_factory.mktemp("catalog")
    reader.write_catalog(folder)
    return folder


WITH_CODE = [
    name
    for name in pages.NAMES
    if any(block.kept is None for block in pages.blocks((pages.ROOT / name).read_text()))
]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", WITH_CODE)
def test_a_pages_code_runs(
    name: str, catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (pages.ROOT / name).read_text()
    for peer in PEERS:
        if f"import {peer}" in text or f"from {peer}" in text:
            pytest.importorskip(peer, reason=f"{peer} is not installed")
    initialise = TrainSettings.__init__

    def briefly(self: TrainSettings, *arguments: Any, **options: Any) -> None:
        initialise(self, *arguments, **options | {"epochs": min(2, options.get("epochs", 2))})

    monkeypatch.setattr(TrainSettings, "__init__", briefly)
    monkeypatch.syspath_prepend(str(pages.ROOT / "examples"))
    shutil.copytree(catalog, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "page", "reader": reader}
    for block in pages.blocks(text):
        if block.kept is None:
            pages.run_block(block, name, namespace)


@pytest.mark.parametrize("name", pages.NAMES)
def test_what_is_not_run_says_why(name: str) -> None:
    for block in pages.blocks((pages.ROOT / name).read_text()):
        assert block.kept is None or len(block.kept) > 10, f"{name}:{block.line} says no reason"


def test_blocks_are_found_with_their_comments() -> None:
    text = (
        "<!-- setup\na = 1\n-->\n```python\nb = a\n```\n\n"
        "<!-- not run: it is only a wish -->\n```sh\nmake\n```\n```text\nx\n```\n"
    )
    assert pages.blocks(text) == [
        ("python", "a = 1", 2, None),
        ("python", "b = a\n", 5, None),
        ("sh", "make\n", 10, "it is only a wish"),
    ]
    namespace: dict[str, Any] = {}
    for block in pages.blocks(text)[:2]:
        pages.run_block(block, "page.md", namespace)
    assert namespace["b"] == 1
    with pytest.raises(AssertionError, match=r"page.md:10: make is not letter-fast"):
        pages.run_block(pages.blocks(text)[2], "page.md", namespace)
    diff = pages.Block("diff", "-a = 1\n+a = 2\n b = a\n", 1, None)
    pages.run_block(diff, "page.md", namespace)
    assert namespace["b"] == 2
