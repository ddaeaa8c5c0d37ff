"""What the client reports beside what the server did."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from pytest_modellens.measure.metrics import ttft_ms
from pytest_modellens.truth.expected import Expected

if TYPE_CHECKING:
    from pytest_modellens.measure.reply import Reply
    from pytest_modellens.measure.timeline import Timeline
    from pytest_modellens.truth.records import SentRequest

__all__ = ["TimingError", "differences", "reported", "timing_error"]

_NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class TimingError:
    """How far the client's instants of one request are from the server's, in ms; above 0 the client's are later."""

    ttft_ms: float | None
    """The client's time to first token minus the server's; None without a token."""
    events_ms: tuple[float, ...]
    """Per event with text: arrival minus `sent_ns`."""
    unexplained_ms: tuple[float, ...]
    """Per event with text: how long before `sent_ns` (below 0) or after `returned_ns` it arrived; 0 between the two,
    where no instant is more right than another. Events that the client read together share the last one's arrival, so
    the earlier ones are late by their distance from it; see `Transport.coalesced_reads`."""


def reported(reply: Reply, *, asked: str) -> Expected:
    """Return what the client says about a request to the model `asked`, in the words of `Scenario.expected`."""
    timeline = reply.timeline
    usage = timeline.usage if timeline else None
    return Expected(
        error_class=reply.error.error_class if reply.error else None,
        status=reply.status or 0,
        text=reply.content,
        reasoning=reply.reasoning,
        tokens=usage.completion if usage else None,
        tokens_source=usage.source if usage else "unknown",
        finish_reason=reply.finish_reason,
        prompt_tokens=usage.prompt if usage else None,
        cached_tokens=usage.cached if usage else None,
        reasoning_tokens=usage.reasoning if usage else None,
        answered_model=None if reply.answered_model == asked else reply.answered_model,
        text_events=len(timeline.events) if timeline else 0,
        streamed=timeline.streamed if timeline else True,
    )


def differences(expected: Expected, found: Expected) -> list[str]:
    """Return one line for each field that differs: `tokens: 12 expected, 11 reported`."""
    pairs = ((field.name, getattr(expected, field.name), getattr(found, field.name)) for field in fields(Expected))
    return [f"{name}: {right!r} expected, {said!r} reported" for name, right, said in pairs if right != said]


def timing_error(sent: SentRequest, timeline: Timeline) -> TimingError:
    """Return how far `timeline` is from the server's log entry of the same request.

    Raises:
        ValueError: they do not have the same number of events with text.
    """
    events, truths = timeline.events, sent.text_events
    if len(events) != len(truths):
        raise ValueError(f"request {sent.number}: {len(truths)} events with text sent, {len(events)} reported")
    pairs = [(event.at_ns, truth) for event, truth in zip(events, truths, strict=True)]
    client_ms, server_ms = ttft_ms(timeline), sent.ttft_ms
    return TimingError(
        ttft_ms=None if client_ms is None or server_ms is None else client_ms - server_ms,
        events_ms=tuple((at_ns - truth.sent_ns) / _NS_PER_MS for at_ns, truth in pairs),
        unexplained_ms=tuple(
            (min(0, at_ns - truth.sent_ns) + max(0, at_ns - truth.returned_ns)) / _NS_PER_MS for at_ns, truth in pairs
        ),
    )
