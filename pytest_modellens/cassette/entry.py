"""One request as a cassette keeps it: every byte and instant that its record was derived from, without secrets."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from pytest_modellens.cassette.hiding import byte_forms, masked
from pytest_modellens.errors import WrongModelError
from pytest_modellens.load.frames import error_to, request_to
from pytest_modellens.measure.clock import timespec_of
from pytest_modellens.providers.credentials import PLAIN_HEADERS, hide
from pytest_modellens.redaction import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_modellens.measure.connection import Read
    from pytest_modellens.measure.exchange import Exchange
    from pytest_modellens.measure.reply import Reply
    from pytest_modellens.measure.wire import WireRequest
    from pytest_modellens.models import RunRequest
    from pytest_modellens.providers.http import HTTPProvider

__all__ = ["Entry", "Place", "Scene", "decode_entry", "encode_entry", "entry_of"]


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What all requests of a cell share."""

    cell: str
    """Unlike that of any other measurement, of the same cell too."""
    origin: dict[str, Any]
    """Fields of `recording.Origin`."""
    expect: dict[str, Any] = {}
    """Fields of `suite.expect.Expect` that are not at their defaults."""
    slo: dict[str, float] = {}
    """Bound by metric."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Which request of its cell it was."""

    round: int
    phase: str
    late_ms: float | None = None
    """None outside loads, like the next two."""
    pause_ms: float | None = None
    worker: int | None = None
    """Number of the load's client process."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """Instants are integer ns on the client's monotonic scale (`perf_counter_ns`); docs/cassettes.md has the format."""

    provider: str
    """Name of the provider."""
    module: str
    class_: str = msgspec.field(name="class")
    """What decoded the answer, with `module`."""
    scene: Scene
    place: Place
    request: bytes
    """The values of `RunRequest`'s fields, in their order, in msgpack; no headers."""
    url: str
    """Without credentials and query."""
    headers: dict[str, str]
    body: bytes
    hidden: list[int]
    """Lengths in bytes of the secrets that were masked, where they occurred."""
    started_at: str
    """Wall time, UTC, ISO 8601."""
    submitted_ns: int
    scheduled_ns: int | None
    opened_ns: int | None
    sent_ns: int | None
    finished_ns: int
    closed_ns: int | None
    resolve_ns: int
    connect_ns: int | None
    """None when it never came to a connection."""
    tls_ns: int | None
    reused: bool
    proxy: str | None
    """Address without credentials."""
    live: bool
    """Whether events were decoded while they arrived."""
    wall_offset_ns: int
    """CLOCK_REALTIME minus the monotonic scale, before the sending; `ended_offset_ns`: after the end."""
    ended_offset_ns: int
    read_gaps_ns: list[int]
    """Per read, when this process made it: after the one before, the first after `submitted_ns`."""
    waits_ns: list[int | None]
    """Per read, how long its data had waited in the kernel by `wall_offset_ns`; None without a stamp."""
    read_bytes: list[int]
    """Per read, its length in `data`."""
    data: bytes
    """All that was received."""
    error: dict[str, Any] | None
    """What kept the response from being complete; None when it was."""
    served: bool | None
    """Whether the model that answered was the one asked for; None when nobody looked."""

    def reads(self) -> list[Read]:
        """Return the reads as `Exchange.reads` has them."""
        times = [*accumulate(self.read_gaps_ns, initial=self.submitted_ns)][1:]
        ends = [*accumulate(self.read_bytes, initial=0)]
        return [
            (at, timespec_of(None if wait is None else at + self.wall_offset_ns - wait), self.data[begin:end])
            for at, wait, (begin, end) in zip(times, self.waits_ns, pairwise(ends), strict=True)
        ]


def entry_of(
    provider: HTTPProvider,
    request: RunRequest,
    reply: Reply,
    exchange: Exchange,
    *,
    scene: Scene,
    place: Place,
    secrets: Sequence[str],
) -> Entry:
    """Return the entry of a decoded request, with `secrets` masked.

    Raises:
        TypeError, OverflowError, UnicodeEncodeError: the request holds what msgpack cannot.
    """
    forms = byte_forms(secrets)
    connection, wire = exchange.connection, exchange.request
    # Without names, which a mask could stand in.
    asked = msgspec.msgpack.encode([*({**request_to(request), "headers": {}}.values())])
    times = [exchange.submitted_ns, *(at for at, _, _ in exchange.reads)]
    offset = exchange.wall_offset_ns
    return Entry(
        provider=provider.name,
        module=type(provider).__module__,
        class_=type(provider).__qualname__,
        scene=scene,
        place=place,
        request=masked(asked, forms),
        url=wire.shown_url,
        headers=_headers(wire),
        body=masked(wire.body, forms),
        hidden=[len(form) for form in forms],
        started_at=exchange.started_at.isoformat(),
        submitted_ns=exchange.submitted_ns,
        scheduled_ns=exchange.scheduled_ns,
        opened_ns=exchange.opened_ns,
        sent_ns=exchange.sent_ns,
        finished_ns=exchange.finished_ns or exchange.submitted_ns,
        closed_ns=exchange.closed_ns,
        resolve_ns=exchange.resolve_ns,
        connect_ns=connection.connect_ns if connection else None,
        tls_ns=connection.tls_ns if connection else None,
        reused=exchange.reused,
        proxy=exchange.route.proxy.shown if exchange.route.proxy else None,
        live=exchange.on_read is not None,
        wall_offset_ns=offset,
        ended_offset_ns=exchange.ended_offset_ns,
        read_gaps_ns=[later - at for at, later in pairwise(times)],
        waits_ns=[
            None if stamp is None else at + offset - stamp
            for (at, _, _), stamp in zip(exchange.reads, exchange.stamps(), strict=True)
        ],
        read_bytes=[len(data) for _, _, data in exchange.reads],
        data=masked(b"".join(data for _, _, data in exchange.reads), forms),
        error=_error(exchange, secrets),
        served=_served(reply),
    )


def _headers(wire: WireRequest) -> dict[str, str]:
    """Return the headers without their values, but for those that never hold a secret."""
    headers = {name: value if name.lower() in PLAIN_HEADERS else HIDDEN for name, value in wire.headers.items()}
    if urlsplit(wire.url).username is not None:
        headers.setdefault("Authorization", HIDDEN)  # which the user and password of the URL become
    return headers


def _error(exchange: Exchange, secrets: Sequence[str]) -> dict[str, Any] | None:
    """Return the exchange's own error as it was before it was decoded, which puts the URL in front."""
    plain = error_to(exchange.error)
    if plain is not None:
        plain["text"] = hide(plain["text"], secrets).removeprefix(f"{exchange.request.shown_url}: ")
    return plain


def _served(reply: Reply) -> bool | None:
    if isinstance(reply.error, WrongModelError):
        return False
    return True if reply.error is None and reply.answered_model else None


def encode_entry(entry: Entry) -> bytes:
    """Return `entry` in msgpack.

    Raises:
        TypeError, OverflowError, UnicodeEncodeError: it holds what msgpack cannot.
    """
    return msgspec.msgpack.encode(entry)


_decode = msgspec.msgpack.Decoder(Entry).decode


def decode_entry(data: bytes) -> Entry:
    """Return the entry that `encode_entry` made `data` of.

    Raises:
        msgspec.MsgspecError: it did not.
    """
    return _decode(data)
