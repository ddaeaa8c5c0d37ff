"""A scenario as packets: what is handed to the kernel by each send, and when."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

from pytest_modellens.truth.dialects import ENCODERS
from pytest_modellens.truth.plan import answer_ms, plan_events

if TYPE_CHECKING:
    from pytest_modellens.truth.dialects import Encoder
    from pytest_modellens.truth.plan import PlannedEvent
    from pytest_modellens.truth.scenario import Scenario

__all__ = ["Cue", "Mark", "Packet", "Script", "fixed_response", "write_script"]

_NS_PER_MS = 1_000_000
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}
_SCRIPTS_KEPT = 64


class Mark(NamedTuple):
    """One event within a packet."""

    kind: str
    tokens: int
    size: int
    """Bytes of the event, without HTTP's framing."""


class Packet(NamedTuple):
    """Bytes of one send."""

    at_ns: int
    """After the request arrived."""
    data: bytes
    """Empty: nothing is sent, the connection is only closed then."""
    marks: tuple[Mark, ...]
    """The events that this send completes."""


@dataclass(frozen=True, slots=True)
class Script:
    """All that is sent for one request, in order."""

    scenario: str
    path: str
    status: int
    streamed: bool
    packets: tuple[Packet, ...]
    ending: Literal["keep", "close", "reset"]


class Cue(NamedTuple):
    """What besides the scenario decides a script."""

    path: str
    model: str
    """The model asked for."""
    stream: bool
    factor: float = 1.0
    """What all times are multiplied by."""
    is_refused: bool = False


@lru_cache(_SCRIPTS_KEPT)
def write_script(scenario: Scenario, cue: Cue) -> Script:
    """Return the script of a scenario, encoded beforehand so that sending costs nothing but the send."""
    encoder = ENCODERS[cue.path](scenario, scenario.answered_model or cue.model, cue.factor)
    streamed = cue.stream and scenario.streamed
    status = 200
    ending: Literal["keep", "close", "reset"] = "close" if scenario.framing == "close" else "keep"
    if cue.is_refused or (scenario.error != "no" and not streamed):
        status = (scenario.refuse_status or 500) if cue.is_refused else 500
        packets, ending = [_refusal(scenario, encoder, status)], "keep"
    else:
        if scenario.close != "no":
            ending = "reset" if scenario.close == "reset" else "close"
        packets = _stream(scenario, encoder) if streamed else _whole(scenario, encoder)
    if cue.factor != 1:
        packets = [packet._replace(at_ns=round(packet.at_ns * cue.factor)) for packet in packets]
    return Script(scenario.name, cue.path, status, streamed, tuple(packets), ending)


def fixed_response(status: int, body: bytes, content_type: str = "application/json", extra: str = "") -> bytes:
    """Return a whole response; `extra` holds more header lines, each with its line end."""
    reason = _REASONS.get(status, "Status")
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


def _refusal(scenario: Scenario, encoder: Encoder, status: int) -> Packet:
    content_type, message = "application/json", f"scripted refusal ({status})"
    body = encoder.error(message, status)
    if scenario.refuse_body == "text":
        content_type, body = "text/plain; charset=utf-8", message.encode()
    extra = f"Retry-After: {scenario.retry_after}\r\n" if scenario.retry_after is not None else ""
    data = fixed_response(status, body, content_type, extra)
    return Packet(
        _ns(scenario.headers_ms), data, (Mark("headers", 0, len(data) - len(body)), Mark("whole", 0, len(body)))
    )


def _whole(scenario: Scenario, encoder: Encoder) -> list[Packet]:
    body = encoder.whole()
    at_ns = _ns(answer_ms(scenario))
    head = _head(scenario, "application/json", len(body), encoder.headers(streamed=False))
    wire = _framed(scenario, body)
    if scenario.close != "no":
        part = wire[: len(wire) - len(body) // 2 - 2]
        return [Packet(at_ns, head + part, (Mark("headers", 0, len(head)), Mark("part", 0, len(part))))]
    end = b"0\r\n\r\n" if scenario.framing == "chunked" else b""
    marks = (Mark("headers", 0, len(head)), Mark("whole", scenario.tokens, len(body)))
    return [Packet(at_ns, head + wire + end, marks)]


def _stream(scenario: Scenario, encoder: Encoder) -> list[Packet]:
    events = plan_events(scenario, encoder.dialect)
    frames = [b"" if event.kind == "close" else encoder.event(event) for event in events]
    # A length that is not reached is how a body with Content-Length shows that it was cut.
    length = sum(map(len, frames)) + (scenario.close != "no")
    head = _head(scenario, encoder.content_type, length, encoder.headers(streamed=True))
    packets = [Packet(_ns(scenario.headers_ms), head, (Mark("headers", 0, len(head)),))]
    for first, last in _together(scenario, events):
        marks = tuple(
            Mark(e.kind, e.tokens, len(f)) for e, f in zip(events[first:last], frames[first:last], strict=True)
        )
        packet = Packet(_ns(events[first].at_ms), b"".join(frames[first:last]), marks)
        if scenario.close == "mid_event" and last == len(events):
            packets.append(_half(scenario, packet))
        elif packet.data:
            packets.extend(_cut(scenario, packet._replace(data=_framed(scenario, packet.data))))
        else:
            packets.append(packet)
    if scenario.framing == "chunked" and scenario.close == "no":
        packets.extend(_cut(scenario, Packet(packets[-1].at_ns, b"0\r\n\r\n", (Mark("end", 0, 0),))))
    return _in_order(packets)


def _together(scenario: Scenario, events: list[PlannedEvent]) -> list[tuple[int, int]]:
    """Return which events share a packet, as (first, one past the last): only token events do."""
    groups: list[tuple[int, int]] = []
    for position, event in enumerate(events):
        if groups and event.tokens:
            first, last = groups[-1]
            if events[first].tokens and last - first < scenario.events_per_packet:
                groups[-1] = (first, position + 1)
                continue
        groups.append((position, position + 1))
    return groups


def _half(scenario: Scenario, packet: Packet) -> Packet:
    wire = _framed(scenario, packet.data)
    part = wire[: len(wire) - len(packet.data) // 2 - 2]
    return packet._replace(data=part, marks=(Mark("part", 0, len(part)),))


def _cut(scenario: Scenario, packet: Packet) -> list[Packet]:
    """Return the packet in the pieces that the scenario wants; the events are with the last of them."""
    if not scenario.split_at and scenario.characters != "split_by_packet":
        return [packet]
    cuts = set(scenario.split_at)
    if scenario.characters == "split_by_packet":
        # The first byte of a character of several is 0xC0 or above.
        cuts.update([position + 1 for position, byte in enumerate(packet.data) if byte >= 0xC0][:1])
    bounds = [0, *sorted(cut for cut in cuts if cut < len(packet.data)), len(packet.data)]
    pieces = [packet.data[start:end] for start, end in pairwise(bounds)]
    gap_ns = _ns(scenario.split_gap_ms)
    parts = [
        Packet(packet.at_ns + number * gap_ns, piece, (Mark("part", 0, len(piece)),))
        for number, piece in enumerate(pieces)
    ]
    parts[-1] = parts[-1]._replace(marks=packet.marks)
    return parts


def _in_order(packets: list[Packet]) -> list[Packet]:
    """Return the packets, those that pieces before them hold up put off until then."""
    latest = 0
    ordered = []
    for packet in packets:
        latest = max(latest, packet.at_ns)
        ordered.append(packet if packet.at_ns == latest else packet._replace(at_ns=latest))
    return ordered


def _head(scenario: Scenario, content_type: str, length: int, more: str) -> bytes:
    framing = {
        "chunked": "Transfer-Encoding: chunked",
        "content-length": f"Content-Length: {length}",
        "close": "Connection: close",
    }[scenario.framing]
    kind = f"Content-Type: {content_type}\r\nCache-Control: no-cache\r\n"
    return f"HTTP/1.1 200 OK\r\n{kind}{framing}\r\n{more}\r\n".encode()


def _framed(scenario: Scenario, body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body) if scenario.framing == "chunked" else body


def _ns(ms: float) -> int:
    return round(ms * _NS_PER_MS)
