"""Replies to records: numbers by the frozen definitions, beside everything that explains them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_modellens.errors import StatusError
from pytest_modellens.measure import metrics
from pytest_modellens.measure.server_times import disagreements
from pytest_modellens.record import Record
from pytest_modellens.suite.slo import slo_met

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_modellens.cost import Price
    from pytest_modellens.measure.reply import Reply
    from pytest_modellens.measure.timeline import Timeline
    from pytest_modellens.models import RunRequest, RunResult
    from pytest_modellens.suite.slo import Slo

__all__ = ["Origin", "record_of"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where records come from: what all requests of one cell share."""

    suite: str
    case: str
    provider: str
    provider_kind: str | None = field(default=None, kw_only=True)
    cold_start_s: float | None = field(default=None, kw_only=True)
    arm: str | None = field(default=None, kw_only=True)
    model: str | None
    case_hash: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    worker: str | None = None
    rounds: int = 1
    concurrency: int = 1
    load: Mapping[str, Any] | None = None
    price: Price | None = None
    """Of the model; None: not known."""


def record_of(
    reply: Reply,
    request: RunRequest,
    *,
    origin: Origin,
    round: int = 0,
    phase: str = "measured",
    expect_failures: list[str] | None = None,
    slo: Sequence[Slo] = (),
    place: Mapping[str, Any] | None = None,
) -> Record:
    """Return the record of one request; `place` has the fields that only a request of a load has."""
    numbers, outcome = _numbers(reply), _outcome(reply)
    return Record(
        suite=origin.suite,
        case=origin.case,
        case_hash=origin.case_hash,
        params=dict(origin.params),
        provider=origin.provider,
        provider_kind=origin.provider_kind,
        cold_start_s=origin.cold_start_s,
        arm=origin.arm,
        model=origin.model,
        worker=origin.worker,
        rounds=origin.rounds,
        concurrency=origin.concurrency,
        load=None if origin.load is None else dict(origin.load),
        round=round,
        phase=phase,
        started_at=reply.started_at.isoformat(timespec="milliseconds"),
        expect_failures=expect_failures or [],
        invalid=_invalid(reply, request, is_measured=phase == "measured"),
        response=reply.content,
        reasoning=reply.reasoning,
        finish_reason=reply.finish_reason,
        answered_model=reply.answered_model,
        server_timings=dict(reply.server_timings),
        server_disagreements=_disagreements(reply, alone=origin.concurrency == 1 and origin.load is None),
        notes=_notes(reply, phase),
        received=reply.received,
        amplifier=None if reply.amplifier is None else dict(reply.amplifier),
        cassette=reply.kept.link if reply.kept else None,
        cassette_note=reply.kept.note if reply.kept else None,
        slo_met=slo_met(outcome | numbers, slo),
        **outcome,
        **_transport(reply),
        **_cost(reply, numbers, origin.price),
        **{"streamed": request.stream, **numbers, **(place or {})},
    )


def _cost(reply: Reply, numbers: Mapping[str, Any], price: Price | None) -> dict[str, Any]:
    prompt, completion = numbers.get("prompt_tokens"), numbers.get("completion_tokens")
    cost = reply.cost_usd
    if price is not None:
        cost = price.cost(prompt=prompt, completion=completion, cached=numbers.get("cached_tokens"))
    if cost is None:
        return {}
    tokens = (prompt or 0) + (completion or 0)
    return {
        "cost_usd": float(cost),
        "cost_usd_per_million_tokens": float(cost * 1_000_000 / tokens) if tokens else None,
    }


def _outcome(reply: Reply) -> dict[str, Any]:
    error = reply.error
    return {
        "ok": error is None,
        "error": None if error is None else str(error),
        "error_class": None if error is None else error.error_class,
        "status": reply.status,
        "retry_after": error.retry_after if isinstance(error, StatusError) else None,
    }


def _disagreements(reply: Reply, *, alone: bool) -> dict[str, list[float]]:
    timeline = reply.timeline
    if reply.error is not None or timeline is None:
        return {}
    return disagreements(
        ttft_ms=metrics.ttft_ms(timeline),
        total_time_ms=metrics.total_time_ms(timeline),
        timings=reply.server_timings,
        alone=alone,
    )


def _notes(reply: Reply, phase: str) -> list[str]:
    if not reply.loaded_model or phase == "measured":
        return [*reply.notes]
    return ["the model was not loaded: the server loaded it during the warm-up", *reply.notes]


def _invalid(reply: Reply, request: RunRequest, *, is_measured: bool) -> str | None:
    """Return why a good reply must not be averaged in; None when it may, or when nobody counted its cached tokens."""
    if reply.invalid is not None:
        return reply.invalid
    if reply.loaded_model and is_measured:
        return "the server loaded the model during this request (give the case a warm-up, which then absorbs it)"
    usage = reply.timeline.usage if reply.timeline else None
    if usage is None or usage.cached is None:
        return None
    if request.cache == "cold" and usage.cached:
        of = f" of {usage.prompt}" if usage.prompt is not None else ""
        return f"cache: cold was asked for, but {usage.cached}{of} prompt tokens came from the server's cache"
    if request.cache == "warm" and not usage.cached and is_measured and reply.error is None:
        return "cache: warm was asked for, but no prompt token came from the server's cache"
    return None


def _transport(reply: Reply) -> dict[str, Any]:
    transport = reply.transport
    if transport is None:
        return {"clock": "adapter" if reply.adapter_result else None}
    return {
        "clock": transport.clock,
        "clock_note": transport.clock_note,
        "reads": transport.reads,
        "coalesced_reads": transport.coalesced_reads,
        "read_delay_ms": transport.read_delay_ms,
        "bytes_received": transport.bytes_received,
        "connection_reused": transport.reused,
        "connect_ms": transport.connect_ms,
        "tls_ms": transport.tls_ms,
        "proxy": transport.proxy,
        "live_decoding": transport.live_decoding,
    }


def _numbers(reply: Reply) -> dict[str, Any]:
    if reply.adapter_result is not None:
        return _claimed(reply.adapter_result)
    timeline = reply.timeline
    if timeline is None:
        return {}
    gaps = metrics.inter_chunk_ms(timeline)
    numbers: dict[str, Any] = {
        "streamed": timeline.streamed,
        "ttft_ms": metrics.ttft_ms(timeline),
        "ttfo_ms": metrics.ttfo_ms(timeline),
        "headers_ms": metrics.headers_ms(timeline),
        "schedule_delay_ms": metrics.schedule_delay_ms(timeline),
        "inter_chunk_ms": gaps,
        "timeline": _plain(timeline),
        "prompt_tokens": timeline.usage.prompt,
        "completion_tokens": timeline.usage.completion,
        "total_tokens": timeline.usage.total,
        "reasoning_tokens": timeline.usage.reasoning,
        "cached_tokens": timeline.usage.cached,
        "tokens_source": timeline.usage.source,
    }
    if reply.error is None:
        numbers |= _of_whole_answers(timeline, gaps)
    return numbers


def _of_whole_answers(timeline: Timeline, gaps: list[float]) -> dict[str, Any]:
    """Return what exists only for an answer that was complete: a cut one has no rate."""
    speed, mode = metrics.tokens_per_second(timeline) or (None, None)
    tpot = metrics.tpot_ms(timeline)
    first = metrics.first_event_tokens(timeline)
    return {
        "total_time_ms": metrics.total_time_ms(timeline),
        "tpot_ms": tpot,
        "tokens_per_second": speed,
        "tokens_per_second_mode": mode,
        "e2e_tokens_per_second": metrics.e2e_tokens_per_second(timeline),
        # One list for both where every event is one token: a long load keeps millions of gaps.
        "itl_ms": metrics.itl_ms(timeline, gaps),
        "first_event_tokens": first[1] if first and tpot is not None else None,
    }


def _claimed(result: RunResult) -> dict[str, Any]:
    return {
        "ttft_ms": result.ttft_ms,
        "ttfo_ms": result.ttfo_ms,
        "total_time_ms": result.total_time_ms,
        "tpot_ms": result.tpot_ms,
        "tokens_per_second": result.tokens_per_second,
        "e2e_tokens_per_second": result.e2e_tokens_per_second,
        "prompt_tokens": result.prompt_tokens,
        "completion_tokens": result.completion_tokens,
        "total_tokens": result.total_tokens,
        "reasoning_tokens": result.reasoning_tokens,
        "cached_tokens": result.cached_tokens,
        "tokens_source": result.tokens_source,
    }


def _plain(timeline: Timeline) -> dict[str, Any]:
    sent, headers, ended = timeline.sent_ns, timeline.headers_ns, timeline.ended_ns
    events = timeline.events
    return {
        "scheduled_ns": timeline.scheduled_ns - sent,
        "headers_ns": None if headers is None else headers - sent,
        "ended_ns": None if ended is None else ended - sent,
        "event_ns": [event.at_ns - sent for event in events],
        "event_kind": [event.kind for event in events],
        "event_tokens": [event.tokens for event in events],
        "event_has_content": [event.has_content for event in events],
    }
