"""What tests of the measuring client send, and read of what came back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_modellens.measure.wire import WireRequest

if TYPE_CHECKING:
    from pytest_modellens.measure.exchange import Exchange


def body(exchange: Exchange) -> bytes:
    return b"".join(data for _, data in exchange.parser.pieces)


def get(url: str, **options: float) -> WireRequest:
    return WireRequest(
        url, method="GET", total_timeout_s=options.get("total", 10.0), stall_timeout_s=options.get("stall")
    )
