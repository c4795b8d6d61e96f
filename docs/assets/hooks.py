"""The site carries copies of files outside docs/ that its pages show, and lists the commands."""

from __future__ import annotations

import inspect
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_LINK = re.compile(r"(?<=\]\()(\.\./[^)#\s]+)")


def on_files(files: Files, config: Any) -> Files:
    """Each linked file goes into the site as repository/PATH."""
    root = Path(config.config_file_path).parent
    for page in list(files.documentation_pages()):
        for link in _LINK.findall(page.content_string):
            path = _outside(page.src_uri, link)
            if path and (root / path).is_file() and f"repository/{path}" not in files.src_uris:
                content = (root / path).read_bytes()
                files.append(File.generated(config, f"repository/{path}", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to such files lead to their copies."""

    def copy(link: re.Match[str]) -> str:
        path = _outside(page.file.src_uri, link[1])
        here = posixpath.dirname(page.file.src_uri)
        return posixpath.relpath(f"repository/{path}", here or ".") if path else link[1]

    return _LINK.sub(copy, markdown).replace("<!-- every command -->", _commands(page))


def _commands(page: Any) -> str:
    """The text of `--help` for each command, as markdown."""
    if page.file.src_uri != "api/commands.md":
        return ""
    import typer.main

    from letter_fast.cli.commands import app

    parts = []
    for name, command in typer.main.get_command(app).commands.items():
        parts.append(f"## letter-fast {name}\n\n{inspect.cleandoc(command.help)}\n")
        parts.append("| | |\n|---|---|")
        for one in command.params:
            help_text = " ".join((getattr(one, "help", None) or "").split()).replace("|", "\\|")
            names = [option for option in one.opts if option.startswith("-")] or [one.name]
            parts.append(f"| {', '.join(f'`{name}`' for name in names)} | {help_text} |")
        parts.append("")
    return "\n".join(parts)


def _outside(page: str, link: str) -> str:
    """The path in the repository that a page links to, empty if it is in docs/."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
    return "" if path.startswith("docs/") else path
