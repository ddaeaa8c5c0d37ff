"""A proxy on loopback that keeps what passes through it, for clients that cannot be looked into.

It is in the measured path, and adds a connection per request to it: measuring through it is the last resort.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from pytest_modellens.measure.clock import now_ns

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

__all__ = ["URL_KEYS", "Passed", "RecordingProxy", "address_in"]

URL_KEYS = ("base_url", "host", "api_base", "endpoint")
"""Keys under which modules take the address of their server."""

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host", "accept-encoding"})
_PATIENCE_S = 600.0


@dataclass(slots=True)
class Passed:
    """One request and its answer."""

    method: str
    path: str
    body: bytes
    sent_ns: int
    """When it had come whole from the client."""
    status: int | None = None
    encoding: str = ""
    """Of the answer's body; empty for none."""
    pieces: list[tuple[int, bytes]] = field(default_factory=list)
    """(ns, bytes) of the answer's body as it came from the server."""


class RecordingProxy:
    """Passes everything on to `base_url`; use it as a context manager."""

    def __init__(self, base_url: str) -> None:
        self.passed: list[Passed] = []
        parts = urlsplit(base_url)
        user, at, netloc = parts.netloc.rpartition("@")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(parts.scheme, netloc, self.passed))
        self._server.daemon_threads = True
        self.url = f"http://{user}{at}127.0.0.1:{self._server.server_address[1]}{parts.path}"
        """Base URL to give to the client, whose affair the user and password of `base_url` are."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def address_in(config: Mapping[str, Any]) -> str | None:
    """Return the key of a configuration that holds an address which a proxy can stand for; None without any."""
    key = next((key for key in URL_KEYS if config.get(key)), None)
    return key if key and urlsplit(str(config[key])).scheme in {"http", "https"} else None


def _handler(scheme: str, netloc: str, passed: list[Passed]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            entry = Passed(self.command, self.path, body, now_ns())
            passed.append(entry)
            connection = (HTTPSConnection if scheme == "https" else HTTPConnection)(netloc, timeout=_PATIENCE_S)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
            try:
                with contextlib.closing(connection):
                    connection.request(self.command, self.path, body or None, headers)
                    response = connection.getresponse()
                    entry.status = response.status
                    entry.encoding = response.getheader("content-encoding", "")
                    self.send_response(response.status, response.reason)
                    for name, value in response.getheaders():
                        if name.lower() not in _HOP_BY_HOP:
                            self.send_header(name, value)
                    self.send_header("Connection", "close")
                    self.end_headers()
                    while data := response.read1(65536):
                        entry.pieces.append((now_ns(), data))
                        self.wfile.write(data)
            except (OSError, HTTPException):
                # The client sees the same as without a proxy: the connection ends early.
                self.close_connection = True

        do_GET = do_POST = do_DELETE = do_HEAD = _pass  # noqa: N815  # http.server looks methods up by these names

    return Handler
