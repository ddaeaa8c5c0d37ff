"""What one request brought, decoded: instants, text, counts, or the reason why there are none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_modellens.measure.timeline import Transport

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from decimal import Decimal

    from pytest_modellens.errors import RequestError
    from pytest_modellens.measure.exchange import Arrivals, Exchange
    from pytest_modellens.measure.timeline import Signature, Timeline, ToolCall
    from pytest_modellens.models import RunResult

__all__ = ["Kept", "Reply", "transport_of"]


class Kept(NamedTuple):
    """What became of the raw bytes of a request whose run keeps a cassette."""

    link: str | None
    """File and position in the run's cassette; None where they are not there."""
    note: str | None
    """Why they are not there; None where they are."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The outcome of one request; `error` is None for a good one."""

    started_at: datetime
    error: RequestError | None = None
    timeline: Timeline | None = None
    """None when nothing was sent."""
    transport: Transport | None = None
    """None when no measuring client carried the request."""
    status: int | None = None
    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    signature: Signature | None = None
    """Of the reasoning; None where the server sends none."""
    finish_reason: str | None = None
    answered_model: str | None = None
    server_timings: Mapping[str, float] = field(default_factory=dict)
    """The server's own timings, in ms."""
    received: str | None = None
    """What arrived, cut to 2,000 characters; only with an error."""
    invalid: str | None = None
    """Why a good answer is no valid measurement, as far as the provider can tell; None when it may be one."""
    loaded_model: bool = False
    """True when the server had to load the model before it could answer."""
    adapter_result: RunResult | None = None
    """The numbers that a provider without our measuring client claims; there is no timeline then."""
    cost_usd: Decimal | None = None
    """What the provider itself says it costs; None where it does not say."""
    notes: tuple[str, ...] = ()
    """What else there is to know of it, the same words for every request that it is true of."""
    amplifier: Mapping[str, Any] | None = None
    """What a call of an Amplifier module was measured by; None for everybody else."""
    exchange: Exchange | None = field(default=None, repr=False, compare=False)
    """What all of this was read from; None when no measuring client of this process carried the request."""
    kept: Kept | None = None
    """None without a cassette."""


def transport_of(exchange: Exchange, arrivals: Arrivals, *, coalesced_reads: int) -> Transport:
    """Return how the bytes of `exchange` travelled."""
    connection = exchange.connection
    fresh = connection is not None and not exchange.reused and exchange.opened_ns is not None
    delays = sorted(arrivals.read_delays_ns)
    return Transport(
        clock=arrivals.clock,
        clock_note=arrivals.note,
        reads=len(exchange.reads),
        coalesced_reads=coalesced_reads,
        # Nearest rank: the smallest delay that 99 % of the reads do not exceed.
        read_delay_ms=delays[-(-len(delays) * 99 // 100) - 1] / 1e6 if delays else None,
        bytes_received=exchange.bytes_received,
        reused=exchange.reused,
        connect_ms=(exchange.resolve_ns + connection.connect_ns) / 1e6 if fresh and connection else None,
        tls_ms=connection.tls_ns / 1e6 if fresh and connection and connection.tls_ns is not None else None,
        proxy=exchange.route.proxy.shown if exchange.route.proxy else None,
        live_decoding=exchange.on_read is not None,
    )
