"""Replies to records."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from pytest_modellens.errors import StatusError, TruncatedError
from pytest_modellens.measure.reply import Reply
from pytest_modellens.measure.timeline import TextEvent, Timeline, TokenUsage, Transport
from pytest_modellens.models import RunRequest, RunResult
from pytest_modellens.record import to_json
from pytest_modellens.recording import Origin, record_of

MS = 1_000_000
STARTED = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)
ORIGIN = Origin("suites/chat.yaml", "greeting", "vllm", "tiny", "abc", {"temperature": 0.5}, "gw0", 4, 2)
LINE = Timeline(
    scheduled_ns=1 * MS,
    sent_ns=2 * MS,
    headers_ns=5 * MS,
    ended_ns=42 * MS,
    events=(
        TextEvent(12 * MS, "reasoning", 1, has_content=False),
        TextEvent(22 * MS, "content", 1, has_content=True),
        TextEvent(42 * MS, "content", 2, has_content=True),
    ),
    usage=TokenUsage(7, 4, 11, 1, 3, "per_event_usage"),
)
WIRE = Transport("kernel", None, 5, 1, 0.25, 900, False, 1.5, 2.5, "http://proxy:1", live_decoding=True)


def reply(**fields: Any) -> Reply:
    defaults: dict[str, Any] = {"started_at": STARTED, "timeline": LINE, "transport": WIRE, "status": 200}
    return Reply(**(defaults | fields))


def test_record_has_everything_that_a_reply_says() -> None:
    request = RunRequest("hi", "tiny", stream=True)
    got = record_of(
        reply(
            content="text",
            reasoning="hm",
            finish_reason="stop",
            answered_model="tiny",
            server_timings={"server_queue_ms": 1.0},
        ),
        request,
        origin=ORIGIN,
        round=3,
        phase="warmup",
    )
    assert (got.suite, got.case, got.case_hash, got.params) == (
        "suites/chat.yaml",
        "greeting",
        "abc",
        {"temperature": 0.5},
    )
    assert (got.provider, got.model, got.worker, got.rounds, got.concurrency) == ("vllm", "tiny", "gw0", 4, 2)
    assert (got.round, got.phase, got.started_at) == (3, "warmup", "2026-11-21T12:00:00.123+00:00")
    assert (got.ok, got.error, got.error_class, got.status, got.retry_after) == (True, None, None, 200, None)
    assert (got.response, got.reasoning, got.finish_reason, got.answered_model) == ("text", "hm", "stop", "tiny")
    assert (got.streamed, got.ttft_ms, got.ttfo_ms, got.total_time_ms, got.headers_ms) == (True, 10.0, 20.0, 40.0, 3.0)
    assert (got.tpot_ms, got.tokens_per_second, got.tokens_per_second_mode) == (10.0, 100.0, "generation")
    assert (got.e2e_tokens_per_second, got.schedule_delay_ms) == (100.0, 1.0)
    assert (got.inter_chunk_ms, got.itl_ms, got.first_event_tokens) == ([10.0, 20.0], [10.0, 10.0], "counted")
    assert (got.prompt_tokens, got.completion_tokens, got.total_tokens) == (7, 4, 11)
    assert (got.reasoning_tokens, got.cached_tokens, got.tokens_source) == (1, 3, "per_event_usage")
    assert (got.clock, got.reads, got.coalesced_reads, got.read_delay_ms) == ("kernel", 5, 1, 0.25)
    assert (got.bytes_received, got.connection_reused, got.connect_ms, got.tls_ms) == (900, False, 1.5, 2.5)
    assert (got.proxy, got.live_decoding, got.server_timings) == ("http://proxy:1", True, {"server_queue_ms": 1.0})
    assert got.timeline == {
        "scheduled_ns": -1 * MS,
        "headers_ns": 3 * MS,
        "ended_ns": 40 * MS,
        "event_ns": [10 * MS, 20 * MS, 40 * MS],
        "event_kind": ["reasoning", "content", "content"],
        "event_tokens": [1, 1, 2],
        "event_has_content": [False, True, True],
    }
    json.dumps(to_json(got))


def test_failure_has_its_instants_but_no_rates() -> None:
    line = Timeline(LINE.scheduled_ns, LINE.sent_ns, None, None, LINE.events, LINE.usage)
    got = record_of(
        reply(timeline=line, error=TruncatedError("cut"), received="HTTP"), RunRequest("hi", "m"), origin=ORIGIN
    )
    assert (got.ok, got.error, got.error_class, got.received) == (False, "cut", "truncated", "HTTP")
    assert (got.ttft_ms, got.ttfo_ms, got.completion_tokens) == (10.0, 20.0, 4)
    assert (got.total_time_ms, got.tpot_ms, got.tokens_per_second, got.e2e_tokens_per_second, got.itl_ms) == (None,) * 5
    assert (got.tokens_per_second_mode, got.first_event_tokens) == (None, None)
    assert got.timeline is not None
    assert (got.timeline["headers_ns"], got.timeline["ended_ns"]) == (None, None)


def test_refusal_keeps_when_to_come_back() -> None:
    got = record_of(
        reply(error=StatusError("slow down", status=429, retry_after="3"), status=429),
        RunRequest("hi", "m"),
        origin=ORIGIN,
    )
    assert (got.error_class, got.status, got.retry_after) == ("http_429", 429, "3")


def test_request_that_was_never_sent_has_no_numbers() -> None:
    got = record_of(
        reply(timeline=None, transport=None, status=None), RunRequest("hi", "m", stream=True), origin=ORIGIN
    )
    assert (got.streamed, got.ttft_ms, got.clock, got.timeline, got.tokens_source) == (
        True,
        None,
        None,
        None,
        "unknown",
    )


@pytest.mark.parametrize(
    ("cache", "usage", "invalid"),
    [
        ("cold", TokenUsage(prompt=39, cached=38), "cache: cold was asked for, but 38 of 39 prompt tokens came from "),
        ("cold", TokenUsage(cached=38), "cache: cold was asked for, but 38 prompt tokens came from the server's cache"),
        ("cold", TokenUsage(prompt=39, cached=0), None),
        ("cold", TokenUsage(prompt=39), None),
        ("any", TokenUsage(prompt=39, cached=38), None),
        ("warm", TokenUsage(prompt=39, cached=38), None),
    ],
)
def test_cached_prompt_makes_a_cold_measurement_invalid(cache: str, usage: TokenUsage, invalid: str | None) -> None:
    line = Timeline(0, 0, usage=usage)
    got = record_of(reply(timeline=line), RunRequest("hi", "m", cache=cache), origin=ORIGIN)
    assert (got.invalid is None) is (invalid is None)
    assert (got.invalid or "").startswith(invalid or "")


def test_claims_of_an_adapter_are_taken_as_they_are() -> None:
    claim = RunResult("r", "m", "p", 1.0, 2.0, 3.0, 4, 5, 9, "usage", 1.5, 0.5, 2.5, 6, 7)
    got = record_of(reply(timeline=None, transport=None, adapter_result=claim), RunRequest("hi", "m"), origin=ORIGIN)
    assert (got.ttft_ms, got.ttfo_ms, got.total_time_ms, got.tpot_ms) == (1.0, 1.5, 2.0, 0.5)
    assert (got.tokens_per_second, got.e2e_tokens_per_second, got.tokens_per_second_mode) == (3.0, 2.5, None)
    assert (got.prompt_tokens, got.completion_tokens, got.total_tokens, got.tokens_source) == (4, 5, 9, "usage")
    assert (got.reasoning_tokens, got.cached_tokens, got.clock) == (6, 7, "adapter")
