"""What a right client must report about a scenario."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_modellens.truth.plan import TEXT_KINDS, PlannedEvent, plan_events, token_texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_modellens.truth.scenario import Dialect, Scenario

__all__ = ["Expected", "expect"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The report of a right client. Of a failed request: what had arrived until then."""

    error_class: str | None = None
    """One of the classes of errors.py; None for a good answer."""
    status: int = 200
    text: str = ""
    reasoning: str = ""
    tokens: int | None = None
    """Completion tokens; None when neither counts nor text came."""
    tokens_source: str = "unknown"
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    answered_model: str | None = None
    """Model that the answer names; None: the one asked for. Servers known to answer under the very name that they were
    asked for make it the error class `wrong_model`; a plain OpenAI-compatible one may resolve aliases."""
    text_events: int = 0
    """Streamed events with text."""
    streamed: bool = True


def expect(scenario: Scenario, dialect: Dialect, *, stream: bool, number: int) -> Expected:
    """Return the report of a right client about the `number`-th request of the scenario."""
    streamed = stream and scenario.streamed
    if scenario.refuses(number):
        status = scenario.refuse_status or 0
        return Expected(error_class=_status_class(status), status=status, streamed=streamed)
    if not streamed:
        return _whole(scenario, dialect)
    events = plan_events(scenario, dialect)
    if scenario.close == "mid_event":
        events = events[:-1]
    return _streamed(scenario, dialect, events)


def _status_class(status: int) -> str:
    return "http_429" if status == 429 else "http_5xx" if status >= 500 else "http_4xx"


def _streamed(scenario: Scenario, dialect: Dialect, events: Sequence[PlannedEvent]) -> Expected:
    texts = [event for event in events if event.kind in TEXT_KINDS]
    counts = [event for event in events if event.has_usage]
    # Ollama omits zeros, so a count of 0 looks like no count.
    counted = [event for event in counts if dialect == "openai" or event.counted]
    per_event = any(event.kind != "usage" and not event.has_finish for event in counted)
    prompt, cached = _prompt(scenario, dialect) if counts else (None, None)
    reasons = scenario.reasoning_tokens and counts and dialect == "openai"
    return Expected(
        error_class=_error_class(scenario, dialect, events),
        text="".join(event.text for event in texts if event.kind == "content"),
        reasoning="".join(event.text for event in texts if event.kind == "reasoning"),
        tokens=counted[-1].counted if counted else len(texts) or None,
        tokens_source=("per_event_usage" if per_event else "usage") if counted else "events" if texts else "unknown",
        finish_reason=scenario.finish_reason if any(event.has_finish for event in events) else None,
        prompt_tokens=prompt,
        cached_tokens=cached,
        reasoning_tokens=min(counts[-1].counted, scenario.reasoning_tokens) if reasons else None,
        answered_model=scenario.answered_model,
        text_events=len(texts),
    )


def _error_class(scenario: Scenario, dialect: Dialect, events: Sequence[PlannedEvent]) -> str | None:
    payloads = any(event.kind not in {"comment", "done", "close"} for event in events)
    if scenario.error != "no":
        return "server_error_in_stream"
    if scenario.close != "no":
        # Where the end of the connection is the end of the body, only what came can tell.
        by_transport = scenario.framing != "close" or scenario.close == "reset"
        return "truncated" if by_transport or payloads or scenario.close == "mid_event" else "protocol"
    ended = any(event.has_finish or (event.kind == "done" and dialect == "openai") for event in events)
    if ended:
        return None
    return "truncated" if payloads else "protocol"


def _whole(scenario: Scenario, dialect: Dialect) -> Expected:
    if scenario.error != "no":
        return Expected(error_class="http_5xx", status=500, streamed=False)
    if scenario.close != "no":
        by_transport = scenario.framing != "close" or scenario.close == "reset"
        return Expected(error_class="truncated" if by_transport else "protocol", streamed=False)
    texts = token_texts(scenario)
    counts = scenario.usage != "missing"
    counted = counts and (dialect == "openai" or scenario.tokens > 0)
    prompt, cached = _prompt(scenario, dialect) if counts else (None, None)
    reasons = scenario.reasoning_tokens and counts and dialect == "openai"
    return Expected(
        text="".join(texts[scenario.reasoning_tokens :]),
        reasoning="".join(texts[: scenario.reasoning_tokens]),
        tokens=scenario.tokens if counted else None,
        tokens_source="usage" if counted else "unknown",
        finish_reason=scenario.finish_reason,
        prompt_tokens=prompt,
        cached_tokens=cached,
        reasoning_tokens=scenario.reasoning_tokens if reasons else None,
        answered_model=scenario.answered_model,
        streamed=False,
    )


def _prompt(scenario: Scenario, dialect: Dialect) -> tuple[int | None, int | None]:
    """Return prompt tokens and cached ones as they can be known: Ollama counts only what it evaluated, and no zero."""
    if dialect == "openai":
        return scenario.prompt_tokens, scenario.cached_tokens
    return scenario.prompt_tokens - (scenario.cached_tokens or 0) or None, None
