"""A scenario as a list of events, before any dialect has put them into bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_modellens.truth.scenario import Dialect, Scenario

__all__ = ["TEXT_KINDS", "PlannedEvent", "answer_ms", "plan_events", "token_texts"]

TEXT_KINDS = frozenset({"content", "reasoning"})
"""Kinds of events that a client must count as carrying text."""

_WIDE = ("é", "日", "😀", "ß", "한", "🚀")


class PlannedEvent(NamedTuple):
    """One event of a stream."""

    at_ms: float
    """After the request arrived."""
    kind: str
    """One of role, null, empty, comment, content, reasoning, finish, usage, done, error; close, which sends nothing."""
    text: str = ""
    tokens: int = 0
    """Tokens that came with it; an empty event has them when a character is not complete yet."""
    counted: int = 0
    """Tokens so far, this event's included."""
    has_finish: bool = False
    """Whether it carries the finish reason."""
    has_usage: bool = False
    """Whether it carries token counts."""


def token_texts(scenario: Scenario) -> list[str]:
    """Return the text of every token; empty where a character is only half there."""
    if scenario.characters == "ascii":
        return [f"t{number} " for number in range(scenario.tokens)]
    texts = [f"{_WIDE[number % len(_WIDE)]}{number} " for number in range(scenario.tokens)]
    if scenario.characters == "split_by_event":
        # The first token is whole, so that the time to first token is the scenario's; so is a last one without partner.
        for number in range(1, scenario.tokens - 1, 2):
            if number != scenario.reasoning_tokens - 1:
                texts[number] = ""
    return texts


def plan_events(scenario: Scenario, dialect: Dialect) -> list[PlannedEvent]:
    """Return the events of a streamed answer, up to where it goes wrong; a close in an event includes that event."""
    counted_each = scenario.usage == "each" and dialect == "openai"
    openers = [
        PlannedEvent(scenario.headers_ms, kind, has_usage=counted_each and kind != "comment")
        for kind in scenario.first_events
        if dialect == "openai" or kind == "empty"
    ]
    tokens = list(_token_events(scenario, has_usage=counted_each))
    if scenario.finish_on_text and scenario.finish_reason is not None and tokens and dialect == "openai":
        counts = counted_each or scenario.usage == "finish"
        tokens[-1] = tokens[-1]._replace(has_finish=True, has_usage=counts)
    after = _after_tokens(scenario, tokens)
    tail = _ollama_tail(scenario, after) if dialect == "ollama" else _openai_tail(scenario, after)
    if scenario.error != "no":
        upcoming = tokens[scenario.error_after : scenario.error_after + 1] or [after]
        return [*openers, *tokens[: scenario.error_after], PlannedEvent(upcoming[0].at_ms, "error")]
    if scenario.close != "no":
        kept, rest = (tokens + tail)[: scenario.close_after], (tokens + tail)[scenario.close_after :]
        upcoming = rest[:1] or [after]
        if scenario.close != "mid_event":
            upcoming = [PlannedEvent(upcoming[0].at_ms, "close")]
        return [*openers, *kept, *upcoming]
    return [*openers, *tokens, *tail]


def answer_ms(scenario: Scenario) -> float:
    """Return when the whole answer would be there: the instant of an answer that is not streamed."""
    return _after_tokens(scenario, list(_token_events(scenario, has_usage=False))).at_ms


def _token_events(scenario: Scenario, *, has_usage: bool) -> Iterator[PlannedEvent]:
    groups = scenario.token_groups()
    texts = token_texts(scenario)
    at_ms, counted = scenario.ttft_ms, 0
    for number, (size, gap) in enumerate(zip(groups, [0.0, *scenario.gaps(len(groups))], strict=False)):
        at_ms += gap
        if number == scenario.stall_after:
            at_ms += scenario.stall_ms
        text = "".join(texts[counted : counted + size])
        kind = "reasoning" if counted < scenario.reasoning_tokens else "content"
        counted += size
        yield PlannedEvent(at_ms, kind if text else "empty", text, size, counted, has_usage=has_usage)


def _after_tokens(scenario: Scenario, tokens: list[PlannedEvent]) -> PlannedEvent:
    """Return the finish event: one gap after the last token event, or where the first would have been."""
    if not tokens:
        return PlannedEvent(scenario.ttft_ms, "finish", has_finish=True)
    at_ms = tokens[-1].at_ms + scenario.gaps(len(tokens))[-1]
    if scenario.stall_after == len(tokens):
        at_ms += scenario.stall_ms
    return PlannedEvent(at_ms, "finish", counted=tokens[-1].counted, has_finish=True)


def _openai_tail(scenario: Scenario, after: PlannedEvent) -> list[PlannedEvent]:
    tail: list[PlannedEvent] = []
    on_text = scenario.finish_on_text and after.counted
    if scenario.finish_reason is not None and not on_text:
        tail.append(after._replace(has_usage=scenario.usage in {"finish", "each"}))
    if scenario.usage in {"end", "each"}:
        tail.append(after._replace(kind="usage", has_finish=False, has_usage=True))
    if scenario.done:
        tail.append(after._replace(kind="done", has_finish=False))
    return tail


def _ollama_tail(scenario: Scenario, after: PlannedEvent) -> list[PlannedEvent]:
    if scenario.finish_reason is None:
        return []
    return [after._replace(has_usage=scenario.usage != "missing")]
