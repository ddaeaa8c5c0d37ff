"""Chat completion answers in every shape that servers in the field give them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_modellens.errors import ProtocolError, StreamedError
from pytest_modellens.measure.timeline import Signature, TextPart, TokenUsage, ToolCall
from pytest_modellens.providers.llamacpp import LlamaCppProvider
from pytest_modellens.providers.openai_wire import ChatAnswer, decode_stream, decode_whole, message_of


def streamed(*payloads: dict[str, Any], done: bool = True) -> ChatAnswer:
    """Return the answer of a stream whose events come in a read each."""
    events = [f"data: {json.dumps(payload)}\n\n".encode() for payload in payloads]
    return decode_stream([*enumerate(events), *([(len(events), b"data: [DONE]\n\n")] if done else [])])


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def counted(total: int, **fields: Any) -> dict[str, Any]:
    return {**delta(**fields), "usage": {"prompt_tokens": 5, "completion_tokens": total}}


def test_deltas_without_text_are_no_tokens() -> None:
    answer = streamed(
        delta(role="assistant", content=""),
        delta(content=None),
        delta(),
        {"choices": []},
        delta(content="a"),
        delta("stop"),
    )
    assert answer.error is None
    assert [event.read for event in answer.deltas] == [4]
    assert answer.usage == TokenUsage(completion=1, source="events")


def test_null_delta_and_null_choices_are_tolerated() -> None:
    answer = streamed(
        {"choices": [{"delta": None, "finish_reason": None}]}, {"choices": None, "usage": {}}, delta(content="a")
    )
    assert (answer.error, "".join(answer.content)) == (None, "a")


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_is_kept_apart(name: str) -> None:
    answer = streamed(delta(**{name: "hm"}), delta(content="a", **{name: "!"}), delta("stop"))
    assert ("".join(answer.content), "".join(answer.reasoning)) == ("a", "hm!")
    assert [(event.kind, event.text, event.has_content) for event in answer.deltas] == [
        ("reasoning", "hm", False),
        ("content", "a!", True),
    ]


def test_tool_calls_are_tokens_but_not_content() -> None:
    answer = streamed(
        delta(tool_calls=[{"index": 0, "function": {"name": "look", "arguments": ""}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '{"a"'}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": {"b": 1}}}]),
        delta(tool_calls=[{"index": 0, "function": None}, {"index": 1, "id": "x"}]),
        delta("tool_calls"),
    )
    assert [(event.kind, event.text) for event in answer.deltas] == [
        ("tool", "look"),
        ("tool", '{"a"'),
        ("tool", '{"b":1}'),
    ]
    assert answer.tool_calls.taken() == (ToolCall("", "look", '{"a"{"b":1}'),)
    assert ("".join(answer.content), answer.finish_reason) == ("", "tool_calls")


def test_parts_of_an_event_are_told_apart_by_kind() -> None:
    both = delta(content="a", reasoning="hm", tool_calls=[{"index": 3, "id": "c", "function": {"name": "look"}}])
    (event,) = streamed(both, delta("stop")).deltas
    assert event.parts == (
        TextPart("reasoning", "hm"),
        TextPart("content", "a"),
        TextPart("tool", "look", 0, "look"),
    )
    assert streamed(delta(content="a"), delta("stop")).deltas[0].parts == (TextPart("content", "a"),)


def test_tool_calls_are_put_together_by_their_index() -> None:
    answer = streamed(
        delta(tool_calls=[{"index": 0, "id": "c0", "function": {"name": "look", "arguments": '{"a"'}}]),
        delta(tool_calls=[{"index": 1, "id": "c1", "function": {"name": "go", "arguments": "{}"}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": ":1}"}}]),
        delta("tool_calls"),
    )
    assert answer.tool_calls.taken() == (ToolCall("c0", "look", '{"a":1}'), ToolCall("c1", "go", "{}"))
    assert [part.call for event in answer.deltas for part in event.parts] == [0, 1, 0]


def test_tool_calls_without_index_begin_with_a_name() -> None:
    answer = streamed(
        delta(tool_calls=[{"function": {"arguments": ""}}]),
        delta(tool_calls=[{"id": "c0", "function": {"name": "look", "arguments": "{"}}]),
        delta(tool_calls=[{"function": {"arguments": "}"}}]),
        delta(tool_calls=[{"function": {"name": "go"}}]),
        delta("tool_calls"),
    )
    assert answer.tool_calls.taken() == (ToolCall("c0", "look", "{}"), ToolCall("", "go", ""))


def test_tool_calls_of_a_whole_answer_are_read() -> None:
    calls = [{"id": "c", "function": {"name": "look", "arguments": "{}"}}]
    body = {"choices": [{"message": {"content": None, "tool_calls": calls}, "finish_reason": "tool_calls"}]}
    answer = decode_whole(json.dumps(body).encode())
    assert (answer.error, answer.tool_calls.taken()) == (None, (ToolCall("c", "look", "{}"),))


@pytest.mark.parametrize("field", ["thinking_blocks", "reasoning_details"])
def test_signature_of_the_reasoning_is_kept_with_its_field(field: str) -> None:
    def signed(*items: Any) -> dict[str, Any]:
        return {field: list(items)}

    answer = streamed(
        delta(reasoning="a", **signed("odd", {"signature": None}, {"signature": 3})),
        delta(reasoning="b", **signed({"signature": "sig"})),
        delta(reasoning="c", **signed({})),
        delta("stop"),
    )
    assert answer.signature == Signature(field, "sig")
    message = {"content": "a", field: [{"signature": "sig"}]}
    assert decode_whole(json.dumps({"choices": [{"message": message}]}).encode()).signature == (field, "sig")


def test_content_may_be_a_list_of_parts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": None}, "x", {"text": "b"}]
    assert "".join(streamed(delta(content=parts)).content) == "ab"


def test_text_completions_and_messages_in_a_stream_are_read() -> None:
    answer = streamed(
        {"choices": [{"text": "a"}]}, {"choices": [{"message": {"content": "b"}, "finish_reason": "stop"}]}
    )
    assert "".join(answer.content) == "ab"


def test_continuous_usage_counts_tokens_per_event() -> None:
    answer = streamed(
        counted(0, role="assistant"),
        counted(2, content="ab"),
        counted(3, content=""),
        counted(4, content="c"),
        {**delta("stop"), "usage": {"prompt_tokens": 5, "completion_tokens": 5}},
        {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}},
    )
    assert [event.tokens for event in answer.deltas] == [2, 2]
    assert answer.usage == TokenUsage(5, 5, 10, source="per_event_usage")


def test_continuous_usage_of_a_cut_stream_is_kept() -> None:
    answer = streamed(counted(1, content="a"), counted(3, content="bc"), done=False)
    assert answer.usage == TokenUsage(5, 3, 8, source="per_event_usage")


def test_usage_on_the_finish_event_alone_is_a_total() -> None:
    answer = streamed(delta(content="ab"), {**delta("stop", content="c"), "usage": {"completion_tokens": 9}})
    assert [event.tokens for event in answer.deltas] == [None, None]
    assert answer.usage == TokenUsage(completion=9, source="usage")


def test_token_ids_count_without_usage() -> None:
    def ids(*tokens: int, finish: str | None = None, **fields: Any) -> dict[str, Any]:
        return {"choices": [{"delta": fields, "token_ids": list(tokens), "finish_reason": finish}]}

    answer = streamed(ids(1, 2, content="ab"), ids(3, content=""), ids(4, content="c", finish="stop"))
    assert [event.tokens for event in answer.deltas] == [2, 2]
    assert answer.usage == TokenUsage(completion=4, source="token_ids")


def test_details_of_usage_are_kept() -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    answer = streamed(delta(content="a"), delta("stop"), {"choices": [], "usage": usage})
    assert answer.usage == TokenUsage(10, 7, 17, 3, 4, "usage")
    none = streamed(
        delta(content="a"),
        {"choices": [], "usage": usage | {"prompt_tokens_details": None, "completion_tokens_details": None}},
    )
    assert none.usage == TokenUsage(10, 7, 17, None, None, "usage")


def test_timings_of_llamacpp_follow_the_stream() -> None:
    def timed(predicted: int, **fields: Any) -> dict[str, Any]:
        timings = {"cache_n": 3, "prompt_n": 4, "prompt_ms": 1.5, "predicted_n": predicted, "predicted_ms": 2}
        return {**delta(**fields), "timings": timings}

    answer = streamed(timed(1, content="a"), timed(3, content="bc"), done=False)
    assert [event.tokens for event in answer.deltas] == [1, 2]
    assert answer.usage == TokenUsage(7, 3, 10, None, 3, "per_event_usage")
    assert answer.timings == {"server_prefill_ms": 1.5, "server_decode_ms": 2.0}


@pytest.mark.parametrize(
    "timings", [{}, {"prompt_ms": "fast"}, {"prompt_ms": True}, {"predicted_n": 3}, {"prompt_n": 3}]
)
def test_odd_timings_are_no_counts(timings: dict[str, Any]) -> None:
    answer = streamed(delta(content="a"), {**delta("stop"), "timings": timings})
    assert answer.timings == {}
    assert answer.usage == TokenUsage(completion=1, source="events")


def test_timings_without_cached_tokens_are_read() -> None:
    answer = streamed(delta(content="a"), {**delta("stop"), "timings": {"prompt_n": 4, "predicted_n": 1}})
    assert answer.usage == TokenUsage(4, 1, 5, None, None, "usage")


def test_metrics_of_vllm_are_its_own_timings() -> None:
    metrics = {"queue_time_ms": 1, "time_to_first_token_ms": 2.5, "generation_time_ms": 9, "mean_itl_ms": 3, "x": 1}
    answer = streamed(delta(content="a"), delta("stop"), {"choices": [], "usage": {}, "metrics": metrics})
    assert answer.timings == {
        "server_queue_ms": 1.0,
        "server_ttft_ms": 2.5,
        "server_decode_ms": 9.0,
        "server_itl_ms": 3.0,
    }


def test_split_characters_are_put_together() -> None:
    raw = 'data: {"choices":[{"delta":{"content":"é🦉"},"finish_reason":"stop"}]}\n\n'.encode()
    answer = decode_stream([(at, raw[at : at + 1]) for at in range(len(raw))])
    assert (answer.error, "".join(answer.content)) == (None, "é🦉")
    assert answer.deltas[0].read == len(raw) - 1


def test_whole_answer_is_read() -> None:
    body = {
        "model": "m",
        "choices": [
            {"message": {"content": "a", "reasoning_content": "hm"}, "finish_reason": "stop"},
            {"message": {"content": "another"}},
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
        "timings": {"prompt_ms": 1.0},
    }
    answer = decode_whole(json.dumps(body).encode())
    assert (answer.content, answer.reasoning, answer.finish_reason, answer.model) == (["a"], ["hm"], "stop", "m")
    assert (answer.streamed, answer.deltas, answer.timings) == (False, [], {"server_prefill_ms": 1.0})
    assert answer.usage == TokenUsage(3, 2, 5, source="usage")


def test_whole_answer_without_usage_has_no_count() -> None:
    assert decode_whole(b'{"choices": [{"text": "a"}]}').usage == TokenUsage()
    assert decode_whole(b'{"choices": [{}]}').content == [""]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", ProtocolError),
        (b"null", ProtocolError),
        (b'{"error": {}}', StreamedError),
        (b'{"error": null}', ProtocolError),
    ],
)
def test_whole_answer_that_is_none_is_an_error(body: bytes, kind: type[Exception]) -> None:
    assert type(decode_whole(body).error) is kind


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "m", "code": 1}}', "m"),
        (b'{"error": {"code": 1}}', "{'code': 1}"),
        (b'{"error": "m"}', "m"),
        (b'{"error": "", "detail": "d"}', "d"),
        (b'{"detail": [1, 2]}', "[1, 2]"),
        (b'{"object": "error", "message": "m"}', "m"),
        (b'{"other": 1}', '{"other": 1}'),
        (b"[1]", "[1]"),
        (b" plain text\n", "plain text"),
        (b"\xff", "\ufffd"),
        (b'{"error": "\xff"}', '{"error": "\ufffd"}'),
        (b"", ""),
    ],
)
def test_message_is_found_in_any_error_body(body: bytes, message: str) -> None:
    assert message_of(body) == message


def test_messages_and_excerpts_are_short() -> None:
    assert len(message_of(b"x" * 10_000)) == 400
    assert len(message_of(b'{"error": "%s"}' % (b"x" * 10_000))) == 400
    answer = decode_whole(b"x" * 10_000)
    assert len(str(answer.error)) < 300
    assert "…" in str(answer.error)


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (134_515_008, "135M"),
        (1_500_000_000, "1.5B"),
        (7_000_000_000, "7B"),
        (70_553_706_496, "70.6B"),
        (180_000_000_000, "180B"),
        (3_500_000, "4M"),
        (127_104, "127K"),
        (999, "999"),
    ],
)
def test_parameter_counts_are_written_as_people_do(count: int, shown: str) -> None:
    model = LlamaCppProvider("http://127.0.0.1:1").model_from({"id": "m", "meta": {"n_params": count}})
    assert model.parameters == shown
