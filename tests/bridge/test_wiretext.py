"""Text and counts out of what servers stream, for each API as its makers document it.

None of these servers runs here: the events below are doubles of theirs, written from the documentation of OpenAI's
Responses API, Anthropic's Messages API, Gemini's streamGenerateContent and Ollama's chat API.
"""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from pytest_modellens.bridge.call import usage_of
from pytest_modellens.bridge.wiretext import WireText, read_wire, sent_values
from pytest_modellens.measure.timeline import TokenUsage

RESPONSES: list[dict[str, Any]] = [
    {"type": "response.created", "response": {"id": "r", "status": "in_progress", "usage": None}},
    {"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning"}},
    {"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": "hm "},
    {"type": "response.reasoning_text.delta", "output_index": 0, "delta": "so"},
    {"type": "response.content_part.added", "part": {"type": "output_text", "text": ""}},
    {"type": "response.output_text.delta", "output_index": 1, "delta": "One "},
    {"type": "response.output_text.delta", "output_index": 1, "delta": "two"},
    {"type": "response.output_text.done", "text": "One two"},
    {"type": "response.function_call_arguments.delta", "delta": '{"a"'},
    {
        "type": "response.completed",
        "response": {
            "status": "completed",
            "usage": {
                "input_tokens": 30,
                "input_tokens_details": {"cached_tokens": 16},
                "output_tokens": 9,
                "output_tokens_details": {"reasoning_tokens": 4},
                "total_tokens": 39,
            },
        },
    },
]
ANTHROPIC: list[dict[str, Any]] = [
    {
        "type": "message_start",
        "message": {
            "content": [],
            "usage": {"input_tokens": 14, "cache_read_input_tokens": 16, "cache_creation_input_tokens": 0},
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "so"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "c2ln"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "One "}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "two"}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"a"'}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}},
    {"type": "message_stop"},
]


def gemini(*parts: dict[str, Any], answered: int | None) -> dict[str, Any]:
    counts = {"promptTokenCount": 30, "cachedContentTokenCount": 16, "thoughtsTokenCount": 4}
    known = {} if answered is None else {"candidatesTokenCount": answered, "totalTokenCount": 34 + answered}
    return {"candidates": [{"content": {"role": "model", "parts": [*parts]}}], "usageMetadata": counts | known}


GEMINI: list[dict[str, Any]] = [
    gemini({"text": "hm ", "thought": True}, answered=None),
    gemini({"text": "so", "thought": True}, answered=None),
    gemini({"text": "One "}, answered=3),
    gemini({"text": "two"}, {"functionCall": {"name": "a", "args": {}}}, answered=5),
    gemini({"thoughtSignature": "c2ln"}, answered=5),
]
CHAT: list[dict[str, Any]] = [
    {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
    {"choices": [{"delta": {"reasoning_content": "hm "}}]},
    {"choices": [{"delta": {"reasoning": "so"}}]},
    {"choices": [{"delta": {"content": "One "}}]},
    {"choices": [{"delta": {"content": "two", "tool_calls": [{"function": {"arguments": "{}"}}]}}]},
    {
        "choices": [],
        "usage": {
            "prompt_tokens": 30,
            "prompt_tokens_details": {"cached_tokens": 16},
            "completion_tokens": 9,
            "completion_tokens_details": {"reasoning_tokens": 4},
            "total_tokens": 39,
        },
    },
]
OLLAMA: list[dict[str, Any]] = [
    {"message": {"role": "assistant", "thinking": "hm "}, "done": False},
    {"message": {"role": "assistant", "thinking": "so"}, "done": False},
    {"message": {"role": "assistant", "content": "One "}, "done": False},
    {"message": {"role": "assistant", "content": "two"}, "done": False},
    {"message": {"role": "assistant", "content": ""}, "done": True, "prompt_eval_count": 30, "eval_count": 9},
]
SSE = {"responses": RESPONSES, "anthropic": ANTHROPIC, "gemini": GEMINI, "chat": CHAT}


def sse(events: list[dict[str, Any]]) -> list[tuple[int, bytes]]:
    return [
        (number, f"event: {event.get('type', 'x')}\ndata: {json.dumps(event)}\n\n".encode())
        for number, event in enumerate(events)
    ]


def counts(wire: WireText) -> TokenUsage:
    return usage_of([("wire", wire.usage)], events=len(wire.spoken))[0]


@pytest.mark.parametrize("api", SSE)
def test_text_and_counts_of_each_api(api: str) -> None:
    wire = read_wire([*sse(SSE[api]), (99, b"data: [DONE]\n\n")])
    assert [(spoken.kind, spoken.text) for spoken in wire.spoken] == [
        ("reasoning", "hm "),
        ("reasoning", "so"),
        ("content", "One "),
        ("content", "two"),
    ]
    ordered = [spoken.at_ns for spoken in wire.spoken]
    assert ordered == sorted(ordered)
    # The announcement of an answer is no token.
    assert (ordered[0] > 0) == (api != "gemini")
    is_split = api == "anthropic"  # which tells no reasoning
    assert counts(wire) == TokenUsage(
        prompt=30, completion=9, total=39, reasoning=None if is_split else 4, cached=16, source="usage"
    )


def test_lines_of_json_are_read_as_well() -> None:
    wire = read_wire([(at, json.dumps(event).encode() + b"\n") for at, event in enumerate(OLLAMA)])
    assert [(spoken.at_ns, spoken.text) for spoken in wire.spoken] == [(0, "hm "), (1, "so"), (2, "One "), (3, "two")]
    assert (counts(wire).prompt, counts(wire).completion) == (30, 9)


def test_event_in_pieces_is_at_its_last_and_whole_streams_are_at_their_only_one() -> None:
    (_, data), *_ = sse([{"choices": [{"delta": {"content": "One"}}]}])
    assert [spoken.at_ns for spoken in read_wire([(1, data[:20]), (2, data[20:-2]), (3, data[-2:])]).spoken] == [3]
    whole = b"".join(data for _, data in sse(CHAT))
    assert {spoken.at_ns for spoken in read_wire([(7, whole)]).spoken} == {7}
    assert [spoken.text for spoken in read_wire([(7, data.rstrip())]).spoken] == ["One"]


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_streams_are_unpacked(encoding: str) -> None:
    packed = gzip.compress(b"".join(data for _, data in sse(CHAT)))
    wire = read_wire([(1, packed[:30]), (2, packed[30:])], encoding=encoding)
    assert "".join(spoken.text for spoken in wire.spoken) == "hm soOne two"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"data: {\n\n",
        b"data: [1]\n\n",
        b'data: {"a": "\xff"}\n\n',
        b"data: " + b'{"a":' * 5000 + b"\n\n",
        b'data: {"type": 3, "choices": {"delta": 1}, "candidates": [1], "message": "x", "usage": [2]}\n\n',
        b'data: {"choices": [null, {"delta": {"content": 5}}], "usage": {"prompt_tokens": "many"}}\n\n',
    ],
)
def test_what_cannot_be_read_says_nothing(data: bytes) -> None:
    wire = read_wire([(1, data)])
    assert wire.spoken == []
    assert counts(wire) == TokenUsage()


def test_broken_compression_ends_what_is_read() -> None:
    assert read_wire([(1, b"no gzip")], encoding="gzip") == WireText([], None)


def test_values_of_requests_are_found_whatever_their_names() -> None:
    bodies = [
        b'{"generationConfig": {"maxOutputTokens": 17, "temperature": 0.25}, "x": [true, {"y": "m"}]}',
        b"no JSON",
    ]
    assert sent_values(bodies) == [17, 0.25, True, "m"]
