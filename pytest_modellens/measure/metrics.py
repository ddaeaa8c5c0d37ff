"""The metric definitions, version 1: one function each, from a `Timeline` to a number.

A function returns None where its metric does not exist. It never returns 0 for something that was not measured.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_modellens.measure.timeline import Timeline

__all__ = [
    "e2e_tokens_per_second",
    "first_event_tokens",
    "headers_ms",
    "inter_chunk_ms",
    "itl_ms",
    "schedule_delay_ms",
    "tokens_per_second",
    "total_time_ms",
    "tpot_ms",
    "ttfo_ms",
    "ttft_ms",
]

_NS_PER_MS = 1_000_000


def _ms(later: int | None, earlier: int) -> float | None:
    return None if later is None else (later - earlier) / _NS_PER_MS


def ttft_ms(timeline: Timeline) -> float | None:
    """Time to first token: first event with text of any kind minus sent. None: not streamed, or no token."""
    return _ms(timeline.first_token_ns, timeline.sent_ns) if timeline.streamed else None


def ttfo_ms(timeline: Timeline) -> float | None:
    """Time to first visible output: first event with content minus sent. None: not streamed, or no content."""
    return _ms(timeline.first_content_ns, timeline.sent_ns) if timeline.streamed else None


def total_time_ms(timeline: Timeline) -> float | None:
    """End of the response minus sent. None: the request failed."""
    return _ms(timeline.ended_ns, timeline.sent_ns)


def headers_ms(timeline: Timeline) -> float | None:
    """End of the header block minus sent. None: it never came."""
    return _ms(timeline.headers_ns, timeline.sent_ns)


def schedule_delay_ms(timeline: Timeline) -> float:
    """Sent minus scheduled: how late the client was. 0 where nothing was scheduled."""
    return (timeline.sent_ns - timeline.scheduled_ns) / _NS_PER_MS


def first_event_tokens(timeline: Timeline) -> tuple[int, str] | None:
    """Return the tokens of the first text event, and "counted" or "assumed"; None without an event.

    Counted: the server counts per event, or says that there are as many tokens as text events. Assumed: 1, because the
    server says at most how many tokens there were in all.
    """
    if not timeline.events:
        return None
    tokens = timeline.events[0].tokens
    if tokens is not None:
        return tokens, "counted"
    return 1, "counted" if _one_token_per_event(timeline) else "assumed"


def _one_token_per_event(timeline: Timeline) -> bool:
    """Return whether the server's own count says so; an estimate from the number of events does not count."""
    return timeline.usage.source != "events" and timeline.usage.completion == len(timeline.events)


def tpot_ms(timeline: Timeline) -> float | None:
    """Time per output token: (last token - first token) / tokens that came after the first event, up to the last.

    Those are completion tokens minus tokens in the first event. Where the server counts per event, tokens counted after
    the last text event are left out of them: an end-of-sequence token has no text, hence no instant, and would make an
    answer of two words look twice as fast.

    None: not streamed, fewer than two text events, no token after the first event, the count unknown, or all events
    arrived at the same instant, so that there is no time to divide.
    """
    events = timeline.events
    if not timeline.streamed or len(events) < 2:
        return None
    later = _tokens_after_first_event(timeline)
    between = events[-1].at_ns - events[0].at_ns
    if later is None or later < 1 or between == 0:
        return None
    return between / _NS_PER_MS / later


def _tokens_after_first_event(timeline: Timeline) -> int | None:
    counts = [event.tokens for event in timeline.events[1:] if event.tokens is not None]
    if len(counts) == len(timeline.events) - 1:
        return sum(counts)
    in_first = first_event_tokens(timeline)
    if timeline.usage.completion is None or in_first is None:
        return None
    return timeline.usage.completion - in_first[0]


def tokens_per_second(timeline: Timeline) -> tuple[float, str] | None:
    """Return generation throughput and its mode; None as for `tpot_ms`, or without a total time.

    Streamed: 1000 / TPOT, "generation". Not streamed: completion tokens / total time, "end_to_end".
    """
    if timeline.streamed:
        tpot = tpot_ms(timeline)
        return None if tpot is None else (1000 / tpot, "generation")
    whole = e2e_tokens_per_second(timeline)
    return None if whole is None else (whole, "end_to_end")


def e2e_tokens_per_second(timeline: Timeline) -> float | None:
    """Completion tokens / total time in seconds. None: the count is unknown, or the request failed."""
    total = total_time_ms(timeline)
    if not total or timeline.usage.completion is None:
        return None
    return timeline.usage.completion / (total / 1000)


def inter_chunk_ms(timeline: Timeline) -> list[float]:
    """Gaps between consecutive text events; empty with fewer than two."""
    arrivals = [event.at_ns for event in timeline.events]
    return [(later - earlier) / _NS_PER_MS for earlier, later in pairwise(arrivals)]


def itl_ms(timeline: Timeline, gaps: list[float] | None = None) -> list[float] | None:
    """Inter-token latencies: each gap divided by the tokens of the event that ended it.

    None: the server does not count per event and there are not as many text events as tokens, or fewer than two events.

    Args:
        timeline: of the request.
        gaps: its `inter_chunk_ms`, where that is known. Where every event is one token, this very list is returned.
    """
    tokens = [event.tokens for event in timeline.events[1:]]
    if not tokens:
        return None
    gaps = inter_chunk_ms(timeline) if gaps is None else gaps
    if None in tokens:
        return gaps if _one_token_per_event(timeline) else None
    if 0 in tokens:
        return None
    if tokens.count(1) == len(tokens):
        return gaps
    return [gap / count for gap, count in zip(gaps, tokens, strict=True) if count]
