"""The built site: links lead somewhere, pages fit a telephone and make no noise, search works."""

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
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

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
    for (const asked of frame.contentWindow.performance.getEntriesByType("resource"))
      if (!asked.name.startsWith(location.origin)) found.push(`${page} asks for ${asked.name}`);
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


def browsed(address: str) -> tuple[str, list[str]]:
    """A page as the browser has it at the end, and what was written to the console until then."""
    options = "--headless --no-sandbox --disable-gpu --virtual-time-budget=1200000 --dump-dom"
    options += " --window-size=1400,1000 --enable-logging=stderr"
    # Nothing outside is reached, whatever a page asks for.
    outside = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    command = [str(BROWSER), *options.split(), outside, address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, re.findall(r":CONSOLE\S*\] (.*)", done.stderr)


def measured(folder: Path, widths: tuple[int, ...]) -> list[str]:
    """The faults that a browser finds in the pages at these widths."""
    pages = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.html"))
    text = HARNESS.replace("PAGES", json.dumps(pages)).replace("WIDTHS", json.dumps(widths))
    (folder / "harness.html").write_text(text)
    failed: list[str] = []

    class Server(SimpleHTTPRequestHandler):
        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            # What a browser asks for by itself is no page's fault.
            if int(code) >= 400 and self.path != "/favicon.ico":
                failed.append(f"{self.path} is answered {int(code)}")

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Server, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/harness.html"
        page, console = browsed(address)
    finally:
        server.shutdown()
        server.server_close()
        (folder / "harness.html").unlink()
    out = re.search(r'<pre id="out">(.*?)</pre>', page, re.S)
    assert out, page[-2000:]
    found: list[str] = json.loads(unescape(out[1]))
    return found + sorted(set(failed)) + [f"the console says {line}" for line in console]


def test_every_link_leads_somewhere(site: Path) -> None:
    assert not list(broken(site))


in_browser = pytest.mark.skipif(not BROWSER, reason="no browser is named: make docs-check")


@in_browser
def test_pages_fit_are_whole_and_say_nothing_to_the_console(site: Path) -> None:
    assert measured(site, (TELEPHONE, DESK)) == []


def test_search_has_an_index_that_a_page_in_a_folder_may_load(site: Path) -> None:
    index = json.loads((site / "search/search_index.json").read_text(encoding="utf-8"))
    assert len(index["docs"]) > 100
    assert (site / "search/search_index.js").exists()


@in_browser
def test_search_needs_no_server(site: Path) -> None:
    page, console = browsed(f"{(site / 'index.html').as_uri()}?q=sinkhorn")
    assert console == []
    found = re.findall(r'href="([^"]+)" class="md-search-result__link"', page)
    assert any("/api/functional.html?h=sinkhorn#" in link for link in found), found
    assert all(Path(url2pathname(urlsplit(link).path)).is_file() for link in found)


def test_faults_are_found(tmp_path: Path) -> None:
    wide = '<p style="width: 900px">wide</p><img src="gone.png"><a href="a.html#gone">a</a>'
    loud = '<script src="https://example.com/a.js"></script><script>throw Error("loud")</script>'
    (tmp_path / "a.html").write_text(f"<!DOCTYPE html><title>a</title><body>{wide}{loud}</body>")
    assert list(broken(tmp_path)) == ["a.html leads to gone.png", "a.html leads to a.html#gone"]
    if BROWSER is not None:
        found = measured(tmp_path, (TELEPHONE,))
        expected = ["a.html is 9", "a.html lacks http", "a.html asks for https://example.com/a.js"]
        expected += ["/gone.png is answered 404", 'the console says "Uncaught Error: loud"']
        for line, begin in zip(found, expected, strict=True):
            assert line.startswith(begin)
