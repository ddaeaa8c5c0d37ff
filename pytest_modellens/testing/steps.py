"""What servers in trouble send: nothing, something else than HTTP, half of it, or all of it very slowly."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from pytest_modellens.truth.script import fixed_response

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CLOSED", "DRIBBLE", "GARBAGE", "HTML", "SILENT", "Bytes", "closed_port", "json_page"]


@dataclass(frozen=True, slots=True)
class Bytes:
    """Bytes to send, whatever was asked."""

    pieces: tuple[bytes, ...]
    then: Literal["keep", "close", "hold"] = "keep"
    """What becomes of the connection; held: nothing is sent and nothing closed."""
    every_s: float = 0.0
    """Pause before each piece."""


def json_page(value: object, status: int = 200) -> Bytes:
    """Return a whole response that holds `value`."""
    return Bytes((fixed_response(status, msgspec.json.encode(value)),))


SILENT = Bytes((), "hold")
CLOSED = Bytes((), "close")
GARBAGE = Bytes((b"\x00\xffSSH-2.0-OpenSSH_9.9\r\n\x00\r\n\r\n",), "close")
HTML = Bytes((fixed_response(200, b"<!doctype html><title>Sign in</title>", "text/html"),))
DRIBBLE = Bytes(
    (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{", *([b" "] * 999)),
    "hold",
    0.2,
)
"""A body that comes one byte every 200 ms: no single read is slow, and all of them take minutes."""


@contextmanager
def closed_port() -> Iterator[str]:
    """Give the root URL of a port that refuses connections, and that nobody else can take meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"
