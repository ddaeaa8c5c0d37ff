"""A server that does exactly what a test tells it to, byte by byte, on raw sockets.

>>> with FaultServer([Read(), response(b"{}")]) as server:
...     requests.get(server.url)

Each connection plays one script, the last script plays for all further ones; a script that ends closes its connection.
Leaving the block ends every wait, closes every socket and joins every thread.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Self

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["SSE", "Close", "FaultServer", "Read", "Reset", "Step", "Wait", "chunk", "chunked", "response", "sse"]


@dataclass(frozen=True)
class Read:
    """Read one request, head and body, and keep it in `FaultServer.received`; the script ends if none comes."""


@dataclass(frozen=True)
class Wait:
    """Do nothing until the time has passed, the event is set, or the test is over."""

    seconds: float = 30.0
    until: threading.Event | None = None


@dataclass(frozen=True)
class Close:
    """Close the connection in order."""


@dataclass(frozen=True)
class Reset:
    """Break the connection: the peer's kernel gets an RST."""


Step = bytes | Read | Wait | Close | Reset | Callable[[Any], object]


def response(body: bytes = b"", status: str = "200 OK", *, kind: str = "application/json", headers: str = "") -> bytes:
    """Return a whole response; `headers` are lines that end in CRLF."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode("latin-1") + body


def chunk(data: bytes) -> bytes:
    """Return one chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def chunked(*pieces: bytes) -> bytes:
    """Return a chunked body of these pieces, with its end."""
    return b"".join(chunk(piece) for piece in pieces) + b"0\r\n\r\n"


def sse(*payloads: str) -> list[bytes]:
    """Return each payload as a server-sent event."""
    return [f"data: {payload}\n\n".encode() for payload in payloads]


SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
"""The head of a streamed response in chunks."""


class FaultServer:
    """A listener on a free port of this machine. A context manager."""

    def __init__(
        self,
        *scripts: Sequence[Step],
        family: socket.AddressFamily = socket.AF_INET,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.scripts = scripts or ([Wait()],)
        self.received: list[bytes] = []
        """Every request that a `Read` took, in order of arrival."""
        self.connections = 0
        self._tls = tls
        self._host = "[::1]" if family == socket.AF_INET6 else "127.0.0.1"
        self._listener = socket.create_server((self._host.strip("[]"), 0), family=family, backlog=256)
        self._listener.settimeout(0.02)
        self.port: int = self._listener.getsockname()[1]
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._open: list[socket.socket] = []

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"{'https' if self._tls else 'http'}://{self._host}:{self.port}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._threads[0].join()
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            script = self.scripts[min(self.connections, len(self.scripts) - 1)]
            self.connections += 1
            connection.settimeout(30)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection, script))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, script: Sequence[Step]) -> None:
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            for step in script:
                self._play(connection, step)
        except (OSError, EOFError):
            pass  # the peer went away: that is its side of the test
        finally:
            connection.close()

    def _play(self, connection: socket.socket, step: Step) -> None:
        if isinstance(step, bytes):
            connection.sendall(step)
        elif isinstance(step, Read):
            self.received.append(read_request(connection))
        elif isinstance(step, Wait):
            self._wait(step)
        elif isinstance(step, Close):
            _end_script()
        elif isinstance(step, Reset):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if isinstance(connection, ssl.SSLSocket):
                socket.socket(fileno=connection.detach()).close()
            _end_script()
        else:
            step(connection)

    def _wait(self, step: Wait) -> None:
        left = step.seconds
        while left > 0 and not (step.until is not None and step.until.is_set()):
            if self._over.wait(min(left, 0.01 if step.until is not None else left)):
                _end_script()
            left -= 0.01 if step.until is not None else left


def read_request(connection: socket.socket) -> bytes:
    """Return one request as it came; EOFError when the peer closes first."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    missing = int(lengths[0].partition(b":")[2]) - len(body) if lengths else 0
    parts = [data]
    while missing > 0:
        parts.append(_some(connection))
        missing -= len(parts[-1])
    return b"".join(parts)


def _end_script() -> NoReturn:
    raise EOFError


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise EOFError
    return data
