"""The smallest server that speaks enough of the API to be measured; it remembers what it was asked."""

from __future__ import annotations

import json
import socket
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["Chat", "FakeServer", "fake_server", "has_read", "stream"]


class FakeServer(ThreadingHTTPServer):
    """Listens on 127.0.0.1, on a free port unless told otherwise."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, answer: Callable[[Chat], None], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Chat)
        self.answer = answer
        """Answers a chat request; the control plane is answered here."""
        self.lock = Lock()
        self.connections = 0
        self.chats: list[dict[str, Any]] = []
        """Bodies of the chat requests, in order."""
        self.headers: list[dict[str, str]] = []
        """Headers of the chat requests, in order."""
        self.page_headers: dict[str, dict[str, str]] = {}
        """Headers that each page was asked for with last."""
        self.models = ["fake"]
        self.metrics: Callable[[], str] | None = None
        """What `/metrics` says; None: there is no such page."""
        self.pages: list[str] = []
        """Paths of the control plane that were asked for, in order."""
        self.more_pages: dict[str, Any] = {}
        """More pages, or others in the place of the usual ones; None: there is no such page."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def get_request(self) -> tuple[Any, Any]:
        self.connections += 1
        return super().get_request()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that go away in the middle are what some tests are about."""


class Chat(BaseHTTPRequestHandler):
    """One connection to a `FakeServer`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FakeServer
    body: dict[str, Any]
    number: int
    """Which of the chat requests it is, from 1 on."""

    def do_GET(self) -> None:
        self.server.page_headers[self.path] = dict(self.headers)
        self.server.pages.append(self.path)
        if self.path == "/metrics" and self.server.metrics is not None:
            page = self.server.metrics().encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)
            return
        known: dict[str, Any] = {
            "/health": {"status": "ok"},
            "/props": {"build_info": "b1-fake"},
            "/v1/models": {"data": [{"id": model} for model in self.server.models]},
            **self.server.more_pages,
        }
        shown = known.get(self.path)
        self.json({"error": "no such page"}, status=404) if shown is None else self.json(shown)

    def do_POST(self) -> None:
        self.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.chats.append(self.body)
            self.server.headers.append(dict(self.headers))
            self.number = len(self.server.chats)
        self.server.answer(self)

    def json(self, value: Any, *, status: int = 200, headers: Sequence[tuple[str, str]] = ()) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, text in headers:
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def event(self, value: Any) -> None:
        data = f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def end_stream(self) -> None:
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def stream(*words: str, model: str | None = None) -> Callable[[Chat], None]:
    """Return an answerer that says `words`, an event each, or all at once where no stream is asked for."""

    def answer(chat: Chat) -> None:
        named = {"model": model or chat.body["model"]}
        usage = {"prompt_tokens": 4, "completion_tokens": len(words), "total_tokens": 4 + len(words)}
        if not chat.body.get("stream"):
            choice: dict[str, Any] = {"message": {"content": "".join(words)}, "finish_reason": "stop"}
            chat.json({**named, "choices": [choice], "usage": usage})
            return
        chat.begin_stream()
        for word in words:
            chat.event({**named, "choices": [{"delta": {"content": word}}]})
        chat.event({**named, "choices": [{"delta": {}, "finish_reason": "stop"}]})
        chat.event({**named, "choices": [], "usage": usage})
        chat.end_stream()

    return answer


def has_read(connection: socket.socket) -> bool:
    """Return whether the program at the other end has read all that was sent to it; only Linux tells."""
    here, there = (
        f"{int.from_bytes(socket.inet_aton(host), sys.byteorder):08X}:{port:04X}"
        for host, port in (connection.getsockname(), connection.getpeername())
    )
    rows = map(str.split, Path("/proc/net/tcp").read_text().splitlines())
    unread = {(row[1], row[2]): row[4].split(":") for row in rows}
    return (unread[here, there][0], unread[there, here][1]) == ("00000000", "00000000")


@contextmanager
def fake_server(answer: Callable[[Chat], None]) -> Iterator[FakeServer]:
    """Serve in a thread."""
    server = FakeServer(answer)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
