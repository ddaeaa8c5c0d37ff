"""What providers tell a listener while requests run.

>>> bus = EventBus()
>>> unsubscribe = bus.subscribe(CompletionEvent, print)

A provider emits to the bus that its constructor was given. A bus without subscribers costs the measured path nothing:
providers ask `has_subscribers` once per request and, without any, decode after the response has ended.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_modellens.models import RunResult

__all__ = ["CompletionEvent", "ErrorEvent", "Event", "EventBus", "TokenGeneratedEvent"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """Something a provider did; `source` is its `event_source`, `request_id` tells concurrent requests apart."""

    source: str
    request_id: str


@dataclass(frozen=True, slots=True)
class TokenGeneratedEvent(Event):
    """Text arrived: once per streamed event that carries any."""

    text: str
    kind: str
    """One of "content", "reasoning", "tool"."""
    index: int
    """Position among the request's text events, from 0."""
    at_ms: float
    """Arrival, in milliseconds after the request was sent."""


@dataclass(frozen=True, slots=True)
class CompletionEvent(Event):
    """A request ended, well or not."""

    success: bool
    result: RunResult | None
    """None on failure."""


@dataclass(frozen=True, slots=True)
class ErrorEvent(Event):
    """A request failed; a CompletionEvent with success=False follows."""

    error_class: str
    message: str


E = TypeVar("E", bound=Event)


class EventBus:
    """Passes events to subscribers, synchronously and in the order of subscription."""

    def __init__(self) -> None:
        self._subscribers: list[tuple[type[Event], Callable[[Any], None]]] = []

    @property
    def has_subscribers(self) -> bool:
        """True when anyone listens."""
        return bool(self._subscribers)

    def subscribe(self, kind: type[E], callback: Callable[[E], None]) -> Callable[[], None]:
        """Call `callback` with every event of `kind` (`Event` for all) and return the function that ends it."""
        entry = (kind, callback)
        self._subscribers.append(entry)

        def unsubscribe() -> None:
            if entry in self._subscribers:
                self._subscribers.remove(entry)

        return unsubscribe

    def emit(self, event: Event) -> None:
        """Pass `event` on. A subscriber that raises is logged and does not disturb the request or the others."""
        for kind, callback in tuple(self._subscribers):
            if isinstance(event, kind):
                try:
                    callback(event)
                except Exception:  # a listener is foreign code, and a measurement must survive it
                    log.exception("event subscriber %r failed", callback)
