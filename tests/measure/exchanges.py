"""What tests of the measuring client send, and read of what came back."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

from pytest_modellens.measure.wire import WireRequest

if TYPE_CHECKING:
    import socket

    from pytest_modellens.measure.exchange import Exchange


def body(exchange: Exchange) -> bytes:
    return b"".join(data for _, data in exchange.parser.pieces)


def get(url: str, **options: float) -> WireRequest:
    return WireRequest(
        url, method="GET", total_timeout_s=options.get("total", 10.0), stall_timeout_s=options.get("stall")
    )


def wait_for_bytes(sock: socket.socket) -> None:
    """Return when something lies in the kernel to be read, and leave it there."""
    assert select.select([sock], [], [], 60)[0]
