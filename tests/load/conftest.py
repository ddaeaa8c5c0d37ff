"""A real model that answers at thousands of tokens per second, and a server that can be told to misbehave."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.embedded.server import EmbeddedServer
from pytest_modellens.embedded.weights import Weights
from pytest_modellens.providers.llamacpp import LlamaCppProvider
from pytest_modellens.providers.openai_compatible import OpenAICompatibleProvider
from tests.tiny_gguf import make_tiny_gguf

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCppProvider]:
    """A provider of a tiny model on this machine."""
    weights = Weights(make_tiny_gguf(tmp_path_factory.mktemp("load") / "tiny.gguf"), "tiny", "path")
    with EmbeddedServer(weights, parallel=4) as server:
        provider = LlamaCppProvider(server.url)
        yield provider
        provider.close()


class Server(ThreadingHTTPServer):
    """Answers chats with one word after `delay_s`, or with the status that `status_of` gives for the n-th request."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.delay_s = 0.0
        self.statuses: dict[int, int] = {}
        self.all_fail = False
        self.held_from: int | None = None
        """Number of the first request that is answered only after `released`; None: all are answered at once."""
        self.released = threading.Event()
        self.bodies: list[dict[str, Any]] = []
        self.lock = threading.Lock()
        self.in_flight = self.most_in_flight = 0

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that went away: tests make them."""

    @property
    def provider(self) -> OpenAICompatibleProvider:
        return OpenAICompatibleProvider(f"http://127.0.0.1:{self.server_port}/v1", api_key="secret-key")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        server = self.server
        with server.lock:
            number = len(server.bodies)
            server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            server.in_flight += 1
            server.most_in_flight = max(server.most_in_flight, server.in_flight)
        time.sleep(server.delay_s)
        if server.held_from is not None and number >= server.held_from:
            server.released.wait(60)
        with server.lock:
            server.in_flight -= 1
        status = 500 if server.all_fail else server.statuses.get(number, 200)
        event = {"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}
        body = f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(ConnectionError):  # of a client that gave up
            self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    """The server, listening."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()
