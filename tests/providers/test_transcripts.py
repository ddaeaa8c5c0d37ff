"""What our decoders make of everything that real servers were recorded to answer."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.errors import ProtocolError, StatusError, WrongModelError
from tests.providers.transcript_outcome import outcome, provider_of
from tests.transcripts.loader import FOLDER, SENT_NS, STEP_MS, Transcript, transcripts

if TYPE_CHECKING:
    from pytest_modellens.measure.reply import Reply

EXPECTED: dict[str, dict[str, Any]] = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
CHATS = transcripts()
GOOD = [chat for chat in CHATS if EXPECTED[chat.id]["ok"]]
STREAMED = [chat for chat in GOOD if EXPECTED[chat.id]["streamed"]]


def ids(chat: Transcript) -> str:
    return chat.id


def decoded(server: str, name: str) -> Reply:
    chat = Transcript(server, name)
    return provider_of(server).decode(chat.request, chat.exchange())


def test_every_transcript_is_expected() -> None:
    assert {chat.id for chat in CHATS} == set(EXPECTED)
    assert len(CHATS) > 80


@pytest.mark.parametrize("chat", CHATS, ids=ids)
def test_transcript_is_decoded_as_expected(chat: Transcript) -> None:
    assert outcome(chat) == EXPECTED[chat.id]


@pytest.mark.parametrize("chat", CHATS, ids=ids)
def test_transcript_in_reads_of_one_byte_means_the_same(chat: Transcript) -> None:
    provider, exchange = provider_of(chat.server), chat.exchange()
    whole = provider.decode(chat.request, exchange)
    bytewise = chat.exchange()
    raw = b"".join(chat.reads())
    bytewise.parser = type(exchange.parser)()
    bytewise.fed = 0
    bytewise.reads = [(SENT_NS + at, None, raw[at : at + 1]) for at in range(len(raw))]
    bytewise.end(None)
    again = provider.decode(chat.request, bytewise)
    assert (again.content, again.reasoning, again.finish_reason) == (
        whole.content,
        whole.reasoning,
        whole.finish_reason,
    )
    assert str(again.error) == str(whole.error)
    assert again.timeline is not None
    assert whole.timeline is not None
    assert again.timeline.usage == whole.timeline.usage
    assert [event.tokens for event in again.timeline.events] == [event.tokens for event in whole.timeline.events]


def texts_of(payload: dict[str, Any]) -> str:
    """Return the text of an event, read independently of our decoder."""
    choice = payload["choices"][0] if payload.get("choices") else {}
    return (choice.get("delta") or {}).get("content") or choice.get("text") or ""


@pytest.mark.parametrize("chat", STREAMED, ids=ids)
def test_streamed_numbers_follow_from_the_recorded_events(chat: Transcript) -> None:
    payloads = chat.payloads()
    at = [number + 2 for number, payload in enumerate(payloads) if texts_of(payload)]
    expected = EXPECTED[chat.id]
    assert expected["response"] == "".join(map(texts_of, payloads))
    assert expected["ttft_ms"] == expected["ttfo_ms"] == at[0] * STEP_MS
    assert expected["inter_chunk_ms"] == [float((later - event) * STEP_MS) for event, later in itertools.pairwise(at)]
    assert expected["total_time_ms"] == expected["reads"] * STEP_MS
    assert expected["headers_ms"] == STEP_MS
    counts = expected["event_tokens"][1:]
    later_tokens = sum(counts) if None not in counts else expected["completion_tokens"] - 1
    assert expected["tpot_ms"] == (at[-1] - at[0]) * STEP_MS / later_tokens
    assert expected["tokens_per_second"] == 1000 / expected["tpot_ms"]
    usages = [payload["usage"] for payload in payloads if payload.get("usage")]
    if usages:
        assert expected["completion_tokens"] == usages[-1]["completion_tokens"]
        assert expected["prompt_tokens"] == usages[-1]["prompt_tokens"]


@pytest.mark.parametrize("chat", [chat for chat in GOOD if chat not in STREAMED], ids=ids)
def test_whole_numbers_follow_from_the_recorded_body(chat: Transcript) -> None:
    body, expected = chat.json(), EXPECTED[chat.id]
    assert expected["response"] == body["choices"][0]["message"]["content"]
    assert expected["completion_tokens"] == body["usage"]["completion_tokens"]
    assert expected["total_tokens"] == body["usage"]["total_tokens"]
    assert expected["tokens_per_second"] == body["usage"]["completion_tokens"] / (expected["total_time_ms"] / 1000)
    assert (expected["ttft_ms"], expected["tpot_ms"], expected["tokens_per_second_mode"]) == (None, None, "end_to_end")


def test_vllm_counts_per_event_with_continuous_usage() -> None:
    got = EXPECTED["vllm/chat_stream_continuous_usage"]
    assert (got["tokens_source"], got["event_tokens"]) == ("per_event_usage", [1, 1, 1, 1, 1, 1])
    assert got["itl_ms"] == [10.0] * 5


def test_vllm_counts_by_token_ids() -> None:
    got = EXPECTED["vllm/chat_stream_token_ids"]
    assert (got["tokens_source"], got["event_tokens"], got["prompt_tokens"]) == ("token_ids", [1] * 6, None)


def test_vllm_chunks_are_not_tokens() -> None:
    got = EXPECTED["vllm/chat_stream_usage"]
    assert (got["completion_tokens"], len(got["event_tokens"])) == (8, 3)
    assert (got["itl_ms"], got["first_event_tokens"], got["tpot_ms"]) == (None, "assumed", 30 / 7)


def test_vllm_without_usage_is_an_estimate() -> None:
    got = EXPECTED["vllm/chat_stream"]
    assert (got["tokens_source"], got["completion_tokens"], got["itl_ms"]) == ("events", 3, None)
    assert got["first_event_tokens"] == "assumed"


def test_vllm_event_inside_a_split_character_is_no_token() -> None:
    # The character's first bytes are an event without text; the replacement character is the server's own.
    chat = Transcript("vllm", "chat_stream_usage_ignore_eos")
    empty = [payload for payload in chat.payloads() if not texts_of(payload)]
    assert len(empty) > 2
    assert len(EXPECTED[chat.id]["event_tokens"]) == len(chat.payloads()) - len(empty)


def test_llamacpp_timings_count_per_event() -> None:
    got = EXPECTED["llamacpp/chat_stream_timings_per_token"]
    assert (got["tokens_source"], got["event_tokens"]) == ("per_event_usage", [1, 1, 1])
    assert (got["prompt_tokens"], got["completion_tokens"], got["cached_tokens"]) == (36, 3, 0)
    assert got["server_timings"] == {"server_prefill_ms": 1264.209, "server_decode_ms": 62.759}


def test_llamacpp_timings_replace_usage_that_was_not_asked_for() -> None:
    got = EXPECTED["llamacpp/chat_stream_no_usage"]
    assert (got["tokens_source"], got["prompt_tokens"], got["completion_tokens"]) == ("usage", 36, 2)
    assert got["cached_tokens"] == 35


def test_llamacpp_answer_of_another_model_is_refused() -> None:
    for name in ("err_unknown_model", "err_unknown_model_stream"):
        reply = decoded("llamacpp", name)
        assert isinstance(reply.error, WrongModelError)
        assert "asked for model 'no-such-model', answered by 'smollm2-135m'" in str(reply.error)


def test_transformers_stream_without_done_is_whole() -> None:
    chat = Transcript("transformers", "chat_stream")
    assert b"[DONE]" not in chat.body
    assert decoded("transformers", "chat_stream").error is None


def test_llama_cpp_python_empty_stream_is_an_error() -> None:
    reply = decoded("llama-cpp-python", "err_ctx_overflow_stream")
    assert reply.status == 200
    assert isinstance(reply.error, ProtocolError)
    assert "the stream was empty" in str(reply.error)


def test_plain_text_of_an_error_is_its_message() -> None:
    reply = decoded("transformers", "err_no_messages")
    assert isinstance(reply.error, StatusError)
    assert str(reply.error).endswith("/v1/chat/completions: HTTP 500: Internal Server Error")
    assert (reply.error.status, reply.error.error_class) == (500, "http_5xx")
    assert reply.received is not None
    assert reply.received.endswith("\r\n\r\nInternal Server Error")
