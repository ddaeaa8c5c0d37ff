"""A small server whose answers a check decides: the truth server's scripts, at any path, and faults below HTTP.

It runs in a thread of this process. It never sends before a script says so, but may send later; what needs exact times
asks the truth server.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pytest_modellens.testing.steps import Bytes, json_page
from pytest_modellens.truth.scenario import Scenario
from pytest_modellens.truth.script import Cue, write_script

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["MODELS", "Received", "ScriptedServer", "Step"]

MODELS = ("contract-model", "contract/second model:7b-ü")
"""Models on offer; the second has what names in the field have: a slash, a space, a colon, a letter beyond ASCII."""

_ANSWERING = {"openai": "/v1/chat/completions", "ollama": "/api/chat"}
_POLL_S = 0.005
_ONE_GB = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of a JSON body; none when it is something else."""
        with contextlib.suppress(ValueError):
            value = json.loads(self.body)
            if isinstance(value, dict):
                return value
        return {}


Step = Scenario | Bytes | Callable[[Received], Bytes]
"""What a request is answered with."""


class ScriptedServer:
    """Listens on a free port of 127.0.0.1 while the block lasts.

    >>> with ScriptedServer() as server:
    ...     server.answers = Scenario(tokens=3)
    ...     Acme(server.root).run_prompt(RunRequest("Hi.", MODELS[0]))
    """

    def __init__(
        self, dialect: Literal["openai", "ollama"] = "openai", pages: Mapping[str, object] | None = None
    ) -> None:
        """Prepare the server.

        Args:
            dialect: the API that scenarios are answered in.
            pages: more pages, as JSON by path; a POST to one of them is no prompt.
        """
        self.answers: Step = Scenario(ttft_ms=5, gap_ms=1, tokens=8)
        """What prompts are answered with; a scenario answers only for `MODELS`."""
        self.page: Bytes | Callable[[Received], Bytes] | None = None
        """What everything else is answered with; None: health, versions and model lists, as servers have them."""
        self.prompts: list[Received] = []
        """What came to be answered by `answers`."""
        self._dialect = dialect
        self._pages = dict(pages or {})
        self._over = threading.Event()
        self._open: set[socket.socket] = set()
        self._http = _Listener(self)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(_POLL_S,), name="modellens-scripted")

    @property
    def root(self) -> str:
        """Scheme, host and port."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._over.set()
        self._http.shutdown()
        self._thread.join()
        for connection in tuple(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._http.server_close()

    def handle(self, received: Received, connection: socket.socket) -> Literal["keep", "close", "reset"]:
        """Answer one request, and return what becomes of its connection."""
        began_ns = time.perf_counter_ns()
        step: Step = self.page or self._page(received.path)
        if received.method == "POST" and received.path not in self._pages:
            self.prompts.append(received)
            step = self.answers
        if isinstance(step, Scenario):
            return self._act(step, received, connection, began_ns)
        if not isinstance(step, Bytes):
            step = step(received)
        for piece in step.pieces:
            if self._over.wait(step.every_s):
                return "close"
            connection.sendall(piece)
        if step.then == "hold":
            self._over.wait()
            return "close"
        return step.then

    def connected(self, connection: socket.socket) -> None:
        """Take note of a connection, which the end of the block closes."""
        self._open.add(connection)

    def _act(
        self, scenario: Scenario, received: Received, connection: socket.socket, began_ns: int
    ) -> Literal["keep", "close", "reset"]:
        fields = received.fields
        model = str(fields.get("model"))
        path = "/api/generate" if received.path.endswith("/generate") else _ANSWERING[self._dialect]
        if model not in MODELS and scenario.refuse_status is None:
            scenario = Scenario(refuse_status=404)
        streamed = bool(fields.get("stream", self._dialect == "ollama"))
        script = write_script(scenario, Cue(path, model, streamed, is_refused=scenario.refuses(1)))
        for packet in script.packets:
            if self._over.wait(max(0.0, (began_ns + packet.at_ns - time.perf_counter_ns()) / 1e9)):
                return "close"
            connection.sendall(packet.data)
        return script.ending

    def _page(self, path: str) -> Bytes:
        if path in self._pages:
            return json_page(self._pages[path])
        if path.endswith("/models"):
            entries = [{"id": name, "object": "model", "created": 0, "owned_by": "contract"} for name in MODELS]
            return json_page({"object": "list", "data": entries})
        if path == "/api/tags":
            details = {"family": "contract", "parameter_size": "7B", "quantization_level": "Q4_K_M"}
            return json_page(
                {"models": [{"name": n, "model": n, "size": 4 * _ONE_GB, "details": details} for n in MODELS]}
            )
        return json_page({"status": "ok", "version": "0.0.0-contract"})


class _Listener(ThreadingHTTPServer):
    daemon_threads = False  # `server_close` then waits for them

    def __init__(self, scripted: ScriptedServer) -> None:
        self.scripted = scripted
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that goes away in the middle is what some checks are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version: ClassVar[str] = "HTTP/1.1"  # type: ignore[misc]  # typeshed has no ClassVar there
    timeout = 30
    server: _Listener

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server.scripted.connected(self.connection)

    def do_POST(self) -> None:  # http.server's name
        length = int(self.headers.get("Content-Length") or 0)
        headers = {name.lower(): value for name, value in self.headers.items()}
        received = Received(self.command, self.path.partition("?")[0], headers, self.rfile.read(length))
        ending = self.server.scripted.handle(received, self.connection)
        self.close_connection = ending != "keep"
        if ending == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # rfile holds the socket open; a close of its own makes the kernel send the RST.
            socket.socket(fileno=self.connection.detach()).close()

    do_GET = do_POST  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the checks tell what matters."""
