"""The built site: every link leads to a page and a heading, and pages fit a telephone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html import unescape
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
# A browser takes minutes for all pages: `make docs-check` names one.
BROWSER = os.environ.get("LETTER_FAST_BROWSER")
TELEPHONE, DESK = 375, 1280
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("mkdocs") is None, reason="mkdocs is not installed"),
]
# Loads each page in a frame of some width; says what is wider than it, and what fails.
HARNESS = """<!DOCTYPE html><title>harness</title><body><script>
const pages = PAGES, widths = WIDTHS, found = [];
const frame = document.createElement("iframe");
frame.height = 900;
document.body.append(frame);
const load = page => new Promise(done => { frame.onload = done; frame.src = page; });
(async () => {
  for (const width of widths) for (const page of pages) {
    frame.width = width;
    await load(page);
    const inside = frame.contentDocument;
    const wide = inside.documentElement.scrollWidth;
    if (wide > width) found.push(`${page} is ${wide} wide at ${width}`);
    for (const image of inside.images)
      if (image.complete && !image.naturalWidth) found.push(`${page} lacks ${image.src}`);
  }
  const out = document.createElement("pre");
  out.id = "out";
  out.textContent = JSON.stringify(found);
  document.body.append(out);
})();
</script></body>"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


class Page(HTMLParser):
    """The places that a page has, and those that it leads to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.places: set[str] = set()
        self.links: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.places.add(value)
            elif name in ("href", "src", "srcset") and value is not None and tag != "base":
                self.links.append(value)


def broken(folder: Path) -> Iterator[str]:
    """Each link of a site that leads nowhere."""
    pages = {path.resolve(): Page(path) for path in folder.rglob("*.html")}
    for path, page in pages.items():
        if path.name == "404.html":
            continue
        for link in page.links:
            if re.match(r"[a-z]+:|//", link):
                continue
            name, _, place = link.partition("#")
            target = (path.parent / unquote(name.partition("?")[0])).resolve() if name else path
            if target.is_dir():
                target /= "index.html"
            if not target.exists() or (
                place and target in pages and unquote(place) not in pages[target].places
            ):
                yield f"{path.relative_to(folder.resolve())} leads to {link}"


def measured(folder: Path, widths: tuple[int, ...]) -> list[str]:
    """The faults that a browser finds in the pages at these widths."""
    pages = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.html"))
    text = HARNESS.replace("PAGES", json.dumps(pages)).replace("WIDTHS", json.dumps(widths))
    (folder / "harness.html").write_text(text)
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        options = "--headless --no-sandbox --disable-gpu --virtual-time-budget=1200000 --dump-dom"
        address = f"http://127.0.0.1:{server.server_port}/harness.html"
        command = [str(BROWSER), *options.split(), "--window-size=1400,1000", address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    finally:
        server.shutdown()
        server.server_close()
        (folder / "harness.html").unlink()
    out = re.search(r'<pre id="out">(.*?)</pre>', done.stdout, re.S)
    assert out, done.stderr[-2000:]
    found: list[str] = json.loads(unescape(out[1]))
    return found


def test_every_link_leads_somewhere(site: Path) -> None:
    assert not list(broken(site))


@pytest.mark.skipif(not BROWSER, reason="no browser is named: make docs-check")
def test_no_page_scrolls_sideways_and_no_picture_is_missing(site: Path) -> None:
    assert measured(site, (TELEPHONE, DESK)) == []


def test_search_needs_no_server(site: Path) -> None:
    index = json.loads((site / "search/search_index.json").read_text(encoding="utf-8"))
    assert len(index["docs"]) > 100
    assert (site / "search/search_index.js").exists()


def test_faults_are_found(tmp_path: Path) -> None:
    wide = '<p style="width: 900px">wide</p><img src="gone.png"><a href="a.html#gone">a</a>'
    (tmp_path / "a.html").write_text(f"<!DOCTYPE html><title>a</title><body>{wide}</body>")
    assert list(broken(tmp_path)) == ["a.html leads to gone.png", "a.html leads to a.html#gone"]
    if BROWSER is not None:
        found = measured(tmp_path, (TELEPHONE,))
        assert len(found) == 2
        assert found[0].startswith("a.html is 9")
