"""A stand-in for the hub: the endpoints that a download asks, over HTTP on a free port."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "c" * 40
_PREFIX = "/api/models/"


@dataclass(eq=False)
class Hub:
    """What it holds, and what was asked of it."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)  # of the one model, tests/model
    gated: bool = False  # only the token "right" may read it
    fetched: list[str] = field(default_factory=list)  # names of files
    tokens: set[str] = field(default_factory=set)
    revisions: tuple[str, ...] = ("main", COMMIT)


@contextmanager
def local_hub() -> Iterator[Hub]:
    """Serves until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    hub = Hub(url=f"http://127.0.0.1:{server.server_port}")
    server.hub = hub  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        return self.server.hub  # type: ignore[attr-defined,no-any-return]

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        self.hub.tokens |= {token} - {""}
        path = unquote(urlsplit(self.path).path)
        name = "/".join(path.removeprefix(_PREFIX).strip("/").split("/")[:2])
        if name != "tests/model":
            self._refuse("RepoNotFound", "Repository not found", status=401)
        elif self.hub.gated and token != "right":
            reason = "Access to model tests/model is restricted. You must have access to it"
            self._refuse("GatedRepo", reason, status=403)
        elif path.startswith(_PREFIX):
            self._describe(path.removeprefix(f"{_PREFIX}{name}"))
        else:
            self._send_file(path.removeprefix(f"/{name}/resolve/{COMMIT}/"), with_body)

    def _describe(self, rest: str) -> None:
        kind, _, revision = rest.strip("/").partition("/")
        if revision.strip("/") not in self.hub.revisions and kind:
            self._refuse("RevisionNotFound", "Invalid rev id", status=404)
        elif kind == "tree":
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": _digest(data)}
                for name, data in self.hub.files.items()
            ]
            self._send(json.dumps(entries).encode(), {"content-type": "application/json"})
        else:
            siblings = [{"rfilename": name} for name in self.hub.files]
            info: dict[str, Any] = {"id": "tests/model", "sha": COMMIT, "siblings": siblings}
            self._send(json.dumps(info).encode(), {"content-type": "application/json"})

    def _send_file(self, name: str, with_body: bool) -> None:
        data = self.hub.files[name]
        if with_body:
            self.hub.fetched.append(name)
        headers = {"x-repo-commit": COMMIT, "etag": f'"{_digest(data)}"'}
        self._send(data, headers, with_body=with_body)

    def _refuse(self, code: str, message: str, *, status: int) -> None:
        self._send(b"", {"x-error-code": code, "x-error-message": message}, status=status)

    def _send(
        self, data: bytes, headers: dict[str, str], *, status: int = 200, with_body: bool = True
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if with_body:
            self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        """Says nothing."""


def _digest(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
