"""What load workers and their parent tell each other comes out as it went in."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.errors import ProtocolError, RequestError, StatusError
from pytest_modellens.load.frames import (
    read_frame,
    reply_from,
    reply_to,
    request_from,
    request_to,
    write_frame,
)
from pytest_modellens.load.reply import LoadReply
from pytest_modellens.measure.reply import Reply
from pytest_modellens.measure.timeline import Signature, TextEvent, Timeline, TokenUsage, ToolCall, Transport
from pytest_modellens.models import RunRequest

if TYPE_CHECKING:
    from pytest_modellens.load.plan import Phase

REQUEST = RunRequest("hello", "tiny", max_tokens=16, stream=True)


def loaded(reply: Reply, phase: Phase = "measured") -> LoadReply:
    return LoadReply(
        reply=reply,
        request=REQUEST,
        index=3,
        phase=phase,
        scheduled_ns=1,
        begun_ns=2,
        sent_ns=3,
        ended_ns=4,
        late_ms=0.5,
        pause_ms=0.25,
        worker=1,
    )


def through_a_pipe(message: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    write_frame(file, message)
    file.seek(0)
    found = read_frame(file)
    assert found is not None
    assert read_frame(file) is None
    return found


def test_replies_survive_the_pipe() -> None:
    timeline = Timeline(
        scheduled_ns=1,
        sent_ns=2,
        headers_ns=3,
        ended_ns=9,
        events=(TextEvent(4, "content", 1, True), TextEvent(5, "reasoning", None, False)),
        usage=TokenUsage(prompt=1, completion=2, source="usage"),
    )
    transport = Transport("kernel", None, 3, 0, 0.1, 100, True, None, None, None, False)
    reply = Reply(
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        timeline=timeline,
        transport=transport,
        status=200,
        content="hi",
        tool_calls=(ToolCall("1", "add", "{}"),),
        signature=Signature("reasoning", "c2ln"),
        finish_reason="stop",
        server_timings={"server_prefill_ms": 1.5},
        notes=("odd",),
    )
    assert reply_from(through_a_pipe(reply_to(loaded(reply))), REQUEST) == loaded(reply)


class OddError(ProtocolError):
    """Somebody else's kind of error."""


@pytest.mark.parametrize(
    "error", [ProtocolError("odd"), StatusError("no", status=429, retry_after="3"), OddError("odder")], ids=type
)
def test_errors_survive_the_pipe(error: RequestError) -> None:
    sent = loaded(Reply(started_at=datetime(2026, 1, 1, tzinfo=UTC), error=error))
    found = reply_from(through_a_pipe(reply_to(sent)), REQUEST).reply.error
    assert found is not None
    assert (str(found), found.error_class) == (str(error), error.error_class)
    if isinstance(error, StatusError):
        assert isinstance(found, StatusError)
        assert (found.status, found.retry_after) == (429, "3")


def test_requests_survive_the_pipe() -> None:
    messages = ({"role": "user", "content": "hi"},)
    for request in (REQUEST, replace(REQUEST, messages=messages, headers={"A": "b"}, extra={"stop": ["x"]})):
        assert request_from(through_a_pipe(request_to(request))) == request


def test_frame_that_was_cut_off_is_the_end() -> None:
    file = io.BytesIO()
    write_frame(file, {"a": 1})
    for size in (2, 5):
        assert read_frame(io.BytesIO(file.getvalue()[:size])) is None
