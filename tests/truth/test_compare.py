"""The client's report beside the server's log, on made-up numbers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest

from pytest_modellens.errors import ConnectError
from pytest_modellens.measure.reply import Reply
from pytest_modellens.measure.timeline import TextEvent, Timeline
from pytest_modellens.truth.compare import differences, reported, timing_error
from pytest_modellens.truth.expected import Expected
from pytest_modellens.truth.records import SentEvent, SentRequest

MS = 1_000_000
SENT = SentRequest(
    number=7,
    id="x",
    connection=1,
    scenario="steady",
    path="/v1/chat/completions",
    model="truth:steady",
    status=200,
    streamed=True,
    accepted_ns=0,
    arrived_ns=10 * MS,
    read_ns=11 * MS,
    ended_ns=90 * MS,
    end="complete",
    blocked_sends=0,
    blocked_ns=0,
    events=(
        SentEvent(10 * MS, 11 * MS, 11 * MS, "headers", 0, 100),
        SentEvent(30 * MS, 30 * MS, 32 * MS, "content", 1, 100),
        SentEvent(40 * MS, 40 * MS, 41 * MS, "content", 1, 100),
        SentEvent(50 * MS, 50 * MS, 51 * MS, "content", 1, 100),
    ),
)


def timeline(*at_ms: int) -> Timeline:
    events = tuple(TextEvent(at * MS, "content", 1, has_content=True) for at in at_ms)
    return Timeline(scheduled_ns=8 * MS, sent_ns=8 * MS, events=events)


def test_arrival_during_the_send_is_explained() -> None:
    error = timing_error(SENT, timeline(31, 39, 54))

    assert error.ttft_ms == 3.0
    assert error.events_ms == (1.0, -1.0, 4.0)
    assert error.unexplained_ms == (0.0, -1.0, 3.0)


def test_no_token_has_no_time_to_first_token() -> None:
    assert timing_error(msgspec.structs.replace(SENT, events=()), timeline()).ttft_ms is None


def test_other_number_of_events_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="request 7: 3 events with text sent, 1 reported"):
        timing_error(SENT, timeline(31))


def test_differences_name_field_and_values() -> None:
    expected = Expected(tokens=12, text="a")

    assert differences(expected, expected) == []
    assert differences(expected, replace(expected, tokens=11)) == ["tokens: 12 expected, 11 reported"]


def test_request_that_was_never_sent_is_reported_too() -> None:
    reply = Reply(started_at=datetime.now(UTC), error=ConnectError("refused"))

    assert reported(reply, asked="m") == Expected(error_class="connect", status=0)
