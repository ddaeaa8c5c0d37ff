"""Events whose text alone is decoded: found where they are, and nothing else taken for one."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from pytest_modellens.providers import openai_payload, openai_wire
from pytest_modellens.providers.frame import Frame
from pytest_modellens.providers.openai_wire import ChatAnswer, decode_stream

AROUND = b'{"model":"m","choices":[{"delta":{"content":"a"}}]}'


def data(payload: Any) -> bytes:
    return b"data: " + (payload if isinstance(payload, bytes) else json.dumps(payload).encode()) + b"\n\n"


def said(text: str, *, field: str = "content", model: str = "m", **more: Any) -> bytes:
    return data({"model": model, "choices": [{"delta": {field: text}, **more}], "id": "chatcmpl-1"})


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (b'"b"', "b"),
        (b'"\\n\\u00e9\\ud83d\\ude00\\""', '\né😀"'),
        ('"é😀"'.encode(), "é😀"),
        (b'""', ""),
        (b'"b","c":"d"', None),
        (b'"b', None),
        (b"", None),
        (b'"', None),
        (b"null", None),
        (b"1", None),
        (b'["b"]', None),
        (b'"\xff"', None),
        (b'"\n"', None),
        (b'"\\x"', None),
    ],
)
def test_text_is_exactly_one_string_in_its_place(written: bytes, text: str | None) -> None:
    frame = Frame.around("a", AROUND)
    assert frame.text_in(AROUND) == "a"
    assert frame.text_in(AROUND.replace(b'"a"', written)) == text


def test_frame_of_a_text_that_is_written_otherwise_fits_nothing() -> None:
    frame = Frame.around("é", b'{"content":"\\u00e9"}')
    assert frame.text_in(b'{"content":"\\u00e9"}') is None


def state(answer: ChatAnswer) -> dict[str, Any]:
    private = {"_frame", "_framed", "_next_lesson", "_sse", "tool_calls", "error"}
    told = {name: value for name, value in vars(answer).items() if name not in private}
    return {**told, "error": repr(answer.error), "tools": answer.tool_calls.taken(), "usage": answer.usage}


PLAIN = [said(text) for text in ("tok", " a", "a", ",", ":", 'model":"m', "}]", "\\", "é", "\n", '"', "")]
PLAIN += [
    data(
        json.dumps(
            {"model": "m", "choices": [{"delta": {"content": text}}], "id": "chatcmpl-1"}, ensure_ascii=False
        ).encode()
    )
    for text in ("é😀", "ok")
]
OTHER = [
    said("a", model="other"),
    said("a", model="a"),
    said("a", field="reasoning_content"),
    said("b", field="reasoning"),
    said("a", finish_reason="stop"),
    said("a", token_ids=[1, 2]),
    b"event: error\n" + said("a"),
    b"event: message\n" + said("a"),
    data({"model": "m", "choices": [{"delta": {"role": "assistant", "content": "a"}}]}),
    data({"model": "m", "choices": [{"delta": {"content": "a", "reasoning_content": "b"}}]}),
    data({"model": "m", "choices": [{"delta": {"content": [{"type": "text", "text": "a"}]}}]}),
    data({"model": "m", "choices": [{"delta": {"content": "a"}}, {"delta": {"content": "a"}}]}),
    data({"model": "m", "choices": [{"text": "a"}]}),
    data({"model": "m", "choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"name": "a"}}]}}]}),
    data({"model": "m", "choices": [{"delta": {"content": "a"}}], "usage": {"completion_tokens": 4}}),
    data({"model": "m", "choices": [{"delta": {"content": "a"}}], "timings": {"prompt_n": 1, "predicted_n": 2}}),
    data({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 3}}),
    data(b'{"model":"m","choices":[{"delta":{"content":"a","content":"b"}}]}'),
    data(b'{"model": "m", "choices": [{"delta": {"content": "\xff"}}], "id": "chatcmpl-1"}'),
    data(b'{"model": "m", "choices": [{"delta": {"content": "a\n"}}], "id": "chatcmpl-1"}'),
    data({"error": {"message": "a"}}),
    b"data: [DONE]\n\n",
    b": ping\n\n",
]


def test_answers_are_those_of_events_that_are_all_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = random.Random(3)
    framed = 0
    for _ in range(1500):
        rare = generator.choice([0.0, 0.05, 0.3])
        blocks = [
            generator.choice(OTHER if generator.random() < rare else PLAIN) for _ in range(generator.randrange(40))
        ]
        field = generator.choice([b"content", b"reasoning_content"])
        raw = b"".join(blocks).replace(b'"content"', b'"%s"' % field)
        cuts = sorted(generator.choices(range(len(raw) + 1), k=generator.choice([0, 3, 60])))
        pieces = list(enumerate(raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)))
        fast = decode_stream(pieces)
        framed += fast._frame is not None  # that there are any, else this would show nothing
        with monkeypatch.context() as slow:
            slow.setattr(Frame, "text_in", lambda *_: None)
            assert state(decode_stream(pieces)) == state(fast), raw
    assert framed > 500


@pytest.mark.parametrize("field", ["content", "reasoning_content", "reasoning"])
def test_of_events_that_are_alike_only_the_text_is_decoded(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []
    decode = openai_payload.decode_payload

    def counted(payload: bytes) -> Any:
        decoded.append(payload)
        return decode(payload)

    monkeypatch.setattr(openai_wire, "decode_payload", counted)
    first = data({"model": "m", "choices": [{"delta": {"role": "assistant", field: "word 0"}}]})
    words = [first, *(said(f"word {n}", field=field) for n in range(1, 100))]
    answer = decode_stream(list(enumerate(words)))
    assert (answer.content or answer.reasoning) == [f"word {n}" for n in range(100)]
    # The first until it is looked around again, and twice what another text would make of one.
    assert len(decoded) <= 12
