"""The instants and tokens of one request: all that the metrics are computed from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import msgspec

__all__ = [
    "Kind",
    "Signature",
    "TextEvent",
    "TextPart",
    "Timeline",
    "TokenUsage",
    "TokensSource",
    "ToolCall",
    "Transport",
]

Kind = Literal["content", "reasoning", "tool"]
TokensSource = Literal[
    "usage", "per_event_usage", "token_ids", "server_tokenize", "local_tokenizer", "events", "unknown"
]


class TextPart(NamedTuple):
    """Text of one kind out of a streamed event, for who listens while it arrives."""

    kind: Kind
    text: str
    call: int = 0
    """Which of the answer's tool calls it belongs to, from 0; 0 for other kinds."""
    name: str = ""
    """The tool's name, with the first part of a call."""


class ToolCall(NamedTuple):
    """A tool that the model wants called."""

    id: str
    """As the server sent it; empty when it sent none."""
    name: str
    arguments: str
    """JSON as the model wrote it, which is not always valid."""


class Signature(NamedTuple):
    """Proof by the model's maker that reasoning is unaltered; it has to be sent back with it."""

    field: str
    """Field of the message that it came in."""
    value: str


class TextEvent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A streamed event that carried text. Role-only, null and empty deltas are not among them."""

    at_ns: int
    kind: Kind
    """What its first text was: visible content, reasoning, or a tool call's name or arguments."""
    tokens: int | None
    """Tokens since the previous text event; None when the server does not count per event."""
    has_content: bool
    """Whether visible content was in it."""


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Token counts of one request, and where they come from. None: not known, which is not 0."""

    prompt: int | None = None
    completion: int | None = None
    total: int | None = None
    reasoning: int | None = None
    cached: int | None = None
    source: TokensSource = "unknown"


@dataclass(frozen=True, slots=True)
class Timeline:
    """Instants of one request, integer ns on one monotonic scale; definitions are in docs/metrics.md."""

    scheduled_ns: int
    sent_ns: int
    headers_ns: int | None = None
    """None when the header block never completed."""
    ended_ns: int | None = None
    """None when the response was not complete, or not good."""
    events: tuple[TextEvent, ...] = ()
    usage: TokenUsage = field(default_factory=TokenUsage)
    streamed: bool = True

    @property
    def first_token_ns(self) -> int | None:
        """Arrival of the first event with text; None without one."""
        return self.events[0].at_ns if self.events else None

    @property
    def first_content_ns(self) -> int | None:
        """Arrival of the first event with visible content; None without one."""
        return next((event.at_ns for event in self.events if event.has_content), None)

    @property
    def last_token_ns(self) -> int | None:
        """Arrival of the last event with text; None without one."""
        return self.events[-1].at_ns if self.events else None


@dataclass(frozen=True, slots=True)
class Transport:
    """How the bytes travelled."""

    clock: str
    clock_note: str | None
    reads: int
    coalesced_reads: int
    """Reads that completed several text events, which therefore share one arrival time."""
    read_delay_ms: float | None
    """p99 over the reads of how long data waited in the kernel; None without kernel stamps."""
    bytes_received: int
    reused: bool
    connect_ms: float | None
    tls_ms: float | None
    proxy: str | None
    live_decoding: bool
