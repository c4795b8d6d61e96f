"""Links of the documentation lead somewhere; the site's menu names each of its pages."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

import letter_fast

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob(".github/*.md")]
]


def prose(page: Path) -> str:
    """A page without its code."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", lambda code: code[0] if "](" not in code[0] else "", text)


def anchors(page: Path) -> set[str]:
    """The anchors of the page's headings, by GitHub's rule."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.S), re.M)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", title) for title in titles]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in plain}


@pytest.mark.parametrize("name", PAGES)
def test_links_resolve(name: str) -> None:
    page = ROOT / name
    for link in re.findall(r"(?<!\\)\]\(([^)\s]+)\)", prose(page)):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name} links to {link}, which doesn't exist"
        assert target.is_relative_to(ROOT), f"{name} links out of the repository: {link}"
        if anchor:
            assert anchor in anchors(target), f"{name}: {path} has no heading #{anchor}"


def test_the_reference_names_what_there_is_and_all_of_it() -> None:
    pages = "".join(page.read_text() for page in (ROOT / "docs/api").glob("*.md"))
    named = re.findall(r"^::: ([\w.]+)$", pages, re.M)
    for name in named:
        try:
            import_module(name)  # a module of letter_fast.compat
        except ModuleNotFoundError:
            home, _, member = name.rpartition(".")
            assert hasattr(import_module(home), member), f"docs/api names {name}"
    members = {name.rpartition(".")[2] for name in named} | {"functional"}
    assert not set(letter_fast.__all__) - members, "docs/api lacks public names"


def test_the_menu_names_every_page() -> None:
    menu = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    named = re.findall(r"([\w/-]+\.md)$", menu, re.M)
    there = [name.removeprefix("docs/") for name in PAGES if name.startswith("docs/")]
    assert sorted(named) == sorted(there)
