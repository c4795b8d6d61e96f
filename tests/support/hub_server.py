"""A hub on this machine: of the Hugging Face hub's interface what saving and loading needs."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """Repositories are folders in memory; every upload is a plain one."""

    files: dict[str, dict[str, bytes]]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def answer(self, status: int, body: Any = None, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kind, _, rest = self.path.removeprefix("/api/").partition("/")
        if self.path == "/api/repos/create":
            asked = json.loads(content)
            name = f"{asked.get('organization') or 'someone'}/{asked['name']}"
            prefix = "datasets/" if asked.get("type") == "dataset" else ""
            self.files.setdefault(prefix + name, {})
            self.answer(200, {"url": f"http://{self.headers['Host']}/{prefix}{name}", "id": name})
        elif "/preupload/" in self.path:
            paths = [one["path"] for one in json.loads(content)["files"]]
            files = [
                {"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths
            ]
            self.answer(200, {"files": files})
        elif "/commit/" in self.path:
            repository = rest.partition("/commit/")[0]
            prefix = "datasets/" if kind == "datasets" else ""
            for line in map(json.loads, content.splitlines()):
                if line["key"] == "file":
                    value = base64.b64decode(line["value"]["content"])
                    self.files[prefix + repository][line["value"]["path"]] = value
            url = f"http://{self.headers['Host']}/{prefix}{repository}/commit/{'0' * 40}"
            self.answer(200, {"commitUrl": url, "commitOid": "0" * 40, "success": True})
        else:
            self.answer(200, {})

    def do_GET(self) -> None:
        if "/resolve/" not in self.path:
            self.answer(200, {"sha": "0" * 40, "id": "x", "siblings": []})
            return
        repository, _, rest = self.path.lstrip("/").partition("/resolve/")
        name = rest.partition("/")[2].partition("?")[0]
        content = self.files.get(repository, {}).get(name)
        if content is None:
            code = "EntryNotFound" if repository in self.files else "RepoNotFound"
            self.answer(404, {"error": "no such file"}, X_Error_Code=code)
            return
        etag = hashlib.sha256(content).hexdigest()
        self.answer(200, content, ETag=f'"{etag}"', X_Repo_Commit="0" * 40)

    do_HEAD = do_GET  # noqa: N815


@contextmanager
def local_hub() -> Iterator[tuple[str, dict[str, dict[str, bytes]]]]:
    """Its address, and the files by repository."""
    files: dict[str, dict[str, bytes]] = {}
    handler = type("Repositories", (Handler,), {"files": files})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", files
    finally:
        server.shutdown()
        server.server_close()
