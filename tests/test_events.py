"""The event bus."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pytest_modellens.events import CompletionEvent, ErrorEvent, Event, EventBus, TokenGeneratedEvent

if TYPE_CHECKING:
    import pytest

TOKEN = TokenGeneratedEvent("source", "1", "text", "content", 0, 1.5)
ERROR = ErrorEvent("source", "1", "timeout", "too late")
COMPLETION = CompletionEvent("source", "1", success=False, result=None)


def test_subscriber_hears_only_the_kind_it_asked_for() -> None:
    bus = EventBus()
    heard: list[Event] = []
    everything: list[Event] = []
    bus.subscribe(ErrorEvent, heard.append)
    bus.subscribe(Event, everything.append)
    for event in (TOKEN, ERROR, COMPLETION):
        bus.emit(event)
    assert heard == [ERROR]
    assert everything == [TOKEN, ERROR, COMPLETION]


def test_subscribers_are_called_in_order_until_they_unsubscribe() -> None:
    bus = EventBus()
    calls: list[str] = []
    first = bus.subscribe(Event, lambda _: calls.append("first"))
    bus.subscribe(Event, lambda _: calls.append("second"))
    bus.emit(TOKEN)
    first()
    first()
    bus.emit(TOKEN)
    assert calls == ["first", "second", "second"]


def test_subscriber_may_unsubscribe_while_it_is_called() -> None:
    bus = EventBus()
    calls: list[str] = []

    def once(_: Event) -> None:
        calls.append("once")
        end()

    end = bus.subscribe(Event, once)
    bus.subscribe(Event, lambda _: calls.append("always"))
    bus.emit(TOKEN)
    bus.emit(TOKEN)
    assert calls == ["once", "always", "always"]


def test_bus_knows_whether_anyone_listens() -> None:
    bus = EventBus()
    answers = [bus.has_subscribers]
    end = bus.subscribe(Event, print)
    answers.append(bus.has_subscribers)
    end()
    answers.append(bus.has_subscribers)
    assert answers == [False, True, False]


def test_subscriber_that_raises_is_logged_and_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    bus = EventBus()
    heard: list[Event] = []

    def broken(_: Event) -> None:
        raise RuntimeError("broken listener")

    bus.subscribe(Event, broken)
    bus.subscribe(Event, heard.append)
    with caplog.at_level(logging.ERROR):
        bus.emit(TOKEN)
    assert heard == [TOKEN]
    assert "event subscriber" in caplog.text
    assert "broken listener" in caplog.text
