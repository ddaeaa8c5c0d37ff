"""How streams end, and what is kept of those that end badly."""

from __future__ import annotations

import pytest

from pytest_modellens.errors import (
    StreamedError,
    TruncatedError,
)
from pytest_modellens.providers.openai import OpenAIProvider
from tests.fault_server import SSE, Close, FaultServer, Read, Reset, Step, Wait, chunk, chunked, sse
from tests.providers.asking import ASK, FIRST, ONE, STOP, TWO, ask, record, stream


@pytest.mark.parametrize("payloads", [(ONE, TWO, STOP), (ONE, TWO, "[DONE]"), (ONE, TWO, STOP, "[DONE]")])
def test_stream_with_a_finish_reason_or_done_is_whole(payloads: tuple[str, ...]) -> None:
    reply = ask(*stream(*payloads))
    assert (reply.error, reply.content) == (None, "one two")


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_stream_may_lack_its_last_line_ends(end: bytes) -> None:
    body = b"".join(sse(ONE, TWO)) + b"data: [DONE]" + end
    reply = ask(SSE, chunked(body))
    assert (reply.error, reply.content) == (None, "one two")
    last = b"".join(sse(ONE)) + f"data: {STOP}".encode() + end
    assert ask(SSE, chunked(last)).error is None


def test_stream_without_done_and_finish_reason_is_truncated() -> None:
    reply = ask(*stream(ONE, TWO))
    assert isinstance(reply.error, TruncatedError)
    assert "the stream ended without [DONE] and without a finish reason" in str(reply.error)
    got = record(reply)
    assert (got.response, got.ttft_ms is not None, got.total_time_ms, got.tpot_ms) == ("one two", True, None, None)


def test_stream_that_ends_inside_an_event_is_truncated() -> None:
    reply = ask(SSE, chunked(*sse(ONE), b'data: {"choices": [{"del'))
    assert isinstance(reply.error, TruncatedError)
    assert "the stream ended in the middle of an event" in str(reply.error)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(SSE, id="chunked"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9999\r\n\r\n", id="length"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", id="close-delimited"),
    ],
)
@pytest.mark.parametrize("end", [Close(), Reset()], ids=["closed", "reset"])
def test_stream_cut_inside_an_event_keeps_what_came_before(head: bytes, end: Step) -> None:
    pieces = [*sse(FIRST, ONE), b'data: {"model":"ti']
    framed = [chunk(piece) for piece in pieces] if head is SSE else pieces
    reply = ask(head, *framed, Wait(0.03), end)
    assert isinstance(reply.error, TruncatedError)
    got = record(reply)
    assert (got.error_class, got.response, got.tokens_source, got.completion_tokens) == (
        "truncated",
        "one ",
        "events",
        1,
    )
    assert got.ttft_ms is not None
    assert got.total_time_ms is None


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"error": {"message": "out of memory", "code": 500}}\n\n',
        b'data: {"error": "out of memory"}\n\n',
        b'data: {"detail": "out of memory"}\n\n',
        b'event: error\ndata: {"message": "out of memory"}\n\n',
        b"event: error\n",
    ],
)
@pytest.mark.parametrize("end", [b"0\r\n\r\n", b""], ids=["complete", "cut"])
def test_error_in_a_stream_is_the_error(event: bytes, end: bytes) -> None:
    if event == b"event: error\n":
        event = chunk(event) + chunk(b'data: {"message": "out of memory"}\n\n')
    else:
        event = chunk(event)
    reply = ask(SSE, chunk(sse(ONE)[0]), event, end)
    assert isinstance(reply.error, StreamedError)
    assert str(reply.error).endswith("the server reported an error in the stream: out of memory")
    assert record(reply).error_class == "server_error_in_stream"
    assert reply.content == "one "


def test_events_after_the_end_or_an_error_are_ignored() -> None:
    assert ask(*stream(ONE, STOP, "[DONE]", TWO)).content == "one "
    assert ask(*stream(ONE, '{"error": "x"}', TWO)).content == "one "


def test_stream_without_usage_is_an_estimate() -> None:
    reply = ask(*stream(FIRST, ONE, TWO, STOP, "[DONE]"))
    got = record(reply)
    assert (got.completion_tokens, got.tokens_source, got.prompt_tokens, got.total_tokens) == (2, "events", None, None)
    with FaultServer([Read(), *stream(ONE, TWO, STOP)]) as server:
        provider = OpenAIProvider(f"{server.url}/v1")
        result = provider.run_prompt(ASK)
        provider.close()
    assert result.tokens_are_estimated
