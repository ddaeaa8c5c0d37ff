"""Ollama's lines: good ones, odd ones, and those that are none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.errors import ProtocolError, StreamedError, TruncatedError
from pytest_modellens.measure.timeline import TextPart, TokenUsage, ToolCall
from pytest_modellens.providers.ollama_wire import decode_lines, decode_object

if TYPE_CHECKING:
    from pytest_modellens.providers.ollama_wire import OllamaAnswer

END = {"done": True, "done_reason": "stop", "prompt_eval_count": 4, "eval_count": 2}


def said(content: str = "", **message: Any) -> dict[str, Any]:
    return {"model": "m", "message": {"role": "assistant", "content": content, **message}, "done": False}


def streamed(*lines: dict[str, Any] | bytes, end: bytes = b"\n") -> OllamaAnswer:
    raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    return decode_lines([(number, line + end) for number, line in enumerate(raw)])


def test_text_counts_and_times_of_a_stream_are_read() -> None:
    durations = {"total_duration": 9_000_000, "load_duration": 1_500_000, "prompt_eval_duration": 2_000_000}
    answer = streamed(said("one "), said("two"), {**said(), **END, **durations, "eval_duration": 5_250_000})
    assert ("".join(answer.content), answer.finish_reason, answer.model, answer.error) == ("one two", "stop", "m", None)
    assert answer.usage == TokenUsage(4, 2, 6, source="usage")
    assert [(delta.read, delta.text, delta.kind, delta.has_content) for delta in answer.deltas] == [
        (0, "one ", "content", True),
        (1, "two", "content", True),
    ]
    assert answer.timings == pytest.approx(
        {"server_total_ms": 9, "server_load_ms": 1.5, "server_prefill_ms": 2, "server_decode_ms": 5.25}
    )


@pytest.mark.parametrize("zeros", [{}, {"prompt_eval_count": 0, "prompt_eval_duration": 0, "load_duration": 0}])
def test_numbers_that_are_left_out_or_zero_are_unknown(zeros: dict[str, int]) -> None:
    answer = streamed(said("a"), {**said(), "done": True, "eval_count": 1, "total_duration": 1_000_000, **zeros})
    assert answer.usage == TokenUsage(None, 1, None, source="usage")
    assert answer.timings == {"server_total_ms": 1.0}
    assert answer.finish_reason is None


def test_answer_without_counts_is_counted_by_events() -> None:
    assert streamed(said("a"), said("b"), {**said(), "done": True}).usage == TokenUsage(None, 2, None, source="events")
    assert streamed({**said(), "done": True}).usage == TokenUsage()


def test_thinking_and_tools_are_told_apart() -> None:
    call = {"function": {"name": "add", "arguments": {"a": 1}}}
    answer = streamed(said(thinking="Hm. "), said("Yes", thinking="So. "), said(tool_calls=[call]), {**said(), **END})
    assert ("".join(answer.reasoning), "".join(answer.content)) == ("Hm. So. ", "Yes")
    assert answer.tool_calls.taken() == (ToolCall("", "add", '{"a":1}'),)
    assert [(delta.kind, delta.has_content) for delta in answer.deltas] == [
        ("reasoning", False),
        ("content", True),
        ("tool", False),
    ]
    assert answer.deltas[1].parts == (TextPart("reasoning", "So. "), TextPart("content", "Yes"))


def test_error_line_under_status_200_is_the_servers_error() -> None:
    answer = streamed(said("a"), {"error": "unexpected EOF"}, said("b"), {**said(), **END})
    assert isinstance(answer.error, StreamedError)
    assert str(answer.error) == "the server reported an error in the stream: unexpected EOF"
    assert answer.content == ["a"]
    assert str(streamed({"error": {"message": "busy"}}).error).endswith(": busy")


@pytest.mark.parametrize(
    ("lines", "kind", "message"),
    [
        ([], ProtocolError, "the stream was empty: no line came"),
        ([b"<html>"], ProtocolError, "line 1 of the stream is not JSON ('<html>')"),
        ([b'{"message": 7}'], ProtocolError, "line 1 of the stream is not a chat answer of Ollama: "),
        ([{"response": "x", "done": False}], ProtocolError, "line 1 of the stream is no chat answer: "),
        ([said("a")], TruncatedError, 'the stream ended without a line that says "done": true'),
        ([b'{"x":' + b"[" * 100_000], ProtocolError, "line 1 of the stream is not JSON ("),
    ],
)
def test_stream_that_is_none_is_refused(lines: list[Any], kind: type[Exception], message: str) -> None:
    error = streamed(*lines).error
    assert type(error) is kind
    assert str(error).startswith(message)


def test_stream_that_ends_within_a_line_is_truncated() -> None:
    answer = streamed(json.dumps(said("a")).encode() + b'\n{"message": {"con', end=b"")
    assert isinstance(answer.error, TruncatedError)
    assert str(answer.error) == "the stream ended in the middle of a line"


def test_last_line_needs_no_line_end_and_nothing_after_it_counts() -> None:
    assert streamed(json.dumps({**said("a"), **END}).encode(), end=b"").error is None
    assert streamed({**said("a"), **END}, {"error": "late"}).error is None


def test_whole_answer_is_read() -> None:
    answer = decode_object(json.dumps({**said("all", thinking="hm"), **END, "eval_duration": 7_000_000}).encode())
    assert (answer.content, answer.reasoning, answer.streamed, answer.deltas) == (["all"], ["hm"], False, [])
    assert (answer.usage, answer.model) == (TokenUsage(4, 2, 6, source="usage"), "m")
    assert answer.timings == pytest.approx({"server_decode_ms": 7.0})


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b"  ", ProtocolError, "the response is empty"),
        (b'{"done": true}', ProtocolError, "the response is not a chat answer of Ollama ("),
        (b'{"error": "no"}', StreamedError, "the server answered 200 with an error: no"),
        (b"\xff", ProtocolError, "the response is not JSON ("),
    ],
)
def test_whole_answer_that_is_none_is_refused(body: bytes, kind: type[Exception], message: str) -> None:
    error = decode_object(body).error
    assert type(error) is kind
    assert str(error).startswith(message)
