"""What the body of one answer says, whichever API it came by."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_modellens.measure.timeline import TextEvent, TextPart, Timeline, TokenUsage
from pytest_modellens.providers.tool_calls import ToolCalls

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_modellens.errors import RequestError
    from pytest_modellens.measure.exchange import Exchange
    from pytest_modellens.measure.timeline import Kind, Signature

__all__ = ["Answer", "TextDelta", "excerpt", "renamed", "timeline_of"]


class TextDelta(msgspec.Struct, frozen=True, gc=False):
    """The text of one streamed event."""

    read: int
    """Number of the read that completed the event."""
    kind: Kind
    text: str
    """Everything textual that it carried, for a listener."""
    tokens: int | None
    """Tokens since the previous text event; None when the server does not count per event."""
    has_content: bool
    several: tuple[TextPart, ...] = ()
    """Its text by kind, where it is a tool's or of several kinds."""

    @property
    def parts(self) -> tuple[TextPart, ...]:
        """The text by kind, in the order in which people read it."""
        return self.several or (TextPart(self.kind, self.text),)


class Answer(ABC):
    """One answer, filled while it is decoded; a subclass knows the bytes of one API."""

    def __init__(self) -> None:
        self.content: list[str] = []
        self.reasoning: list[str] = []
        self.deltas: list[TextDelta] = []
        self.tool_calls = ToolCalls()
        self.signature: Signature | None = None
        self.finish_reason: str | None = None
        self.model: str | None = None
        self.timings: dict[str, float] = {}
        """The server's own, in ms, under the names of docs/metrics.md."""
        self.error: RequestError | None = None
        """What is wrong with the answer; None when nothing is."""
        self.streamed = True
        """False for an answer that came in one piece."""

    @property
    @abstractmethod
    def usage(self) -> TokenUsage:
        """Token counts, by the best source that the answer offers."""

    @abstractmethod
    def feed(self, read: int, data: bytes) -> list[TextDelta]:
        """Take the body bytes of one read and return the text events that they complete."""


def timeline_of(
    exchange: Exchange, answer: Answer | None, stamps: Sequence[int], *, streamed: bool, failed: bool
) -> Timeline | None:
    """Return the instants of a finished exchange; None when it was never sent.

    Args:
        exchange: what was sent and received.
        answer: what its body means; None when nothing of it could be decoded.
        stamps: when each of its reads arrived.
        streamed: whether a stream was asked for. What the server did counts, where it can be known: some ignore it.
        failed: whether there was no whole, good answer.
    """
    if exchange.sent_ns is None:
        return None
    header_read = exchange.parser.header_read
    ended = exchange.closed_ns if exchange.closed_ns is not None else stamps[-1] if stamps else None
    deltas = answer.deltas if answer else ()
    return Timeline(
        scheduled_ns=exchange.scheduled_ns if exchange.scheduled_ns is not None else exchange.sent_ns,
        sent_ns=exchange.sent_ns,
        headers_ns=stamps[header_read] if header_read is not None else None,
        ended_ns=None if failed else ended,
        events=tuple([TextEvent(stamps[delta.read], delta.kind, delta.tokens, delta.has_content) for delta in deltas]),
        usage=answer.usage if answer else TokenUsage(),
        streamed=answer.streamed if answer else streamed,
    )


def renamed(values: Mapping[str, Any], names: Mapping[str, str], *, scale: float = 1.0) -> dict[str, float]:
    """Return the numbers among `values` under our `names`, times `scale`."""
    return {
        name: values[key] * scale
        for key, name in names.items()
        if isinstance(values.get(key), (int, float)) and not isinstance(values[key], bool)
    }


def excerpt(data: bytes) -> str:
    """Return the beginning of what should have been something else, for a message."""
    text = data[:200].decode("utf-8", "replace")
    return f"{text!r}{'…' if len(data) > 200 else ''}"
