"""The built-in scenarios: one for each behaviour that servers show in the field.

A self-check runs them all. Each takes a fraction of a second, and says in `expected()` what a right client reports.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_modellens.truth.scenario import Distribution, Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SCENARIOS"]

_QUICK = Scenario(ttft_ms=20, gap_ms=4, tokens=12)


def _timing() -> Iterator[Scenario]:
    yield Scenario(
        name="steady",
        description="first token after 50 ms, then one every 10 ms, 32 of them",
        tokens=32,
    )
    yield replace(_QUICK, name="single-token", description="one token, hence no gap", tokens=1)
    yield replace(_QUICK, name="no-token", description="a good answer without any text", tokens=0)
    yield replace(_QUICK, name="listed-gaps", description="gaps of 2, 20, 1 and 8 ms in turn", gap_ms=(2, 20, 1, 8))
    for kind, cv in (("exponential", 1.0), ("lognormal", 0.5), ("gamma", 0.7)):
        yield replace(
            _QUICK,
            name=kind,
            description=f"{kind} gaps, 5 ms on average, the same in every request",
            gap_ms=Distribution(kind, 5, cv=cv, seed=1),  # type: ignore[arg-type]
            tokens=24,
        )
    yield replace(_QUICK, name="back-to-back", description="all tokens with no gap between them", gap_ms=0)
    yield replace(_QUICK, name="slow-headers", description="headers only with the first token", headers_ms=20)
    yield replace(_QUICK, name="stall", description="150 ms of silence after 6 tokens", stall_ms=150, stall_after=6)
    yield replace(
        _QUICK,
        name="slows-down",
        description="from the third request on everything takes 1.5 times as long",
        slow_from=3,
        slow_factor=1.5,
    )


def _tokens() -> Iterator[Scenario]:
    yield replace(_QUICK, name="three-a-event", description="three tokens in every event", tokens_per_event=3)
    yield replace(
        _QUICK, name="mixed-events", description="events of 1, 4 and 2 tokens in turn", tokens_per_event=(1, 4, 2)
    )
    yield replace(
        _QUICK,
        name="mixed-events-counted",
        description="events of 1, 4 and 2 tokens, each with the count so far",
        tokens_per_event=(1, 4, 2),
        usage="each",
    )
    yield replace(_QUICK, name="reasoning", description="5 tokens of reasoning before the answer", reasoning_tokens=5)
    yield replace(
        _QUICK,
        name="reasoning-short-name",
        description="reasoning in the field `reasoning`, with the count so far in every event",
        reasoning_tokens=5,
        reasoning_field="reasoning",
        usage="each",
        dialect="openai",
    )
    yield replace(_QUICK, name="only-reasoning", description="reasoning, and then no visible text", reasoning_tokens=12)
    yield replace(_QUICK, name="usage-in-every-event", description="token counts in every event", usage="each")
    yield replace(_QUICK, name="usage-on-finish", description="token counts on the finish event", usage="finish")
    yield replace(_QUICK, name="usage-missing", description="no token counts at all", usage="missing")
    yield replace(
        _QUICK,
        name="finish-on-text",
        description="finish reason and counts on the last token",
        finish_on_text=True,
        usage="finish",
        dialect="openai",
    )
    yield replace(_QUICK, name="cut-at-limit", description="finish reason `length`", finish_reason="length")
    yield replace(
        _QUICK, name="cached-prompt", description="38 of 39 prompt tokens cached", prompt_tokens=39, cached_tokens=38
    )


def _events() -> Iterator[Scenario]:
    api = replace(_QUICK, dialect="openai")
    yield replace(api, name="first-null", description="a first event with null content", first_events=("null",))
    yield replace(_QUICK, name="first-empty", description="a first event with empty content", first_events=("empty",))
    yield replace(
        api,
        name="first-of-all-kinds",
        description="a comment and role-only, null and empty events before the text",
        first_events=("comment", "role", "null", "empty"),
        usage="each",
    )
    yield replace(_QUICK, name="no-first-event", description="text from the first event on", first_events=())
    yield replace(api, name="no-done", description="the stream ends without [DONE]", done=False)
    yield replace(api, name="no-finish-reason", description="[DONE] without a finish reason", finish_reason=None)
    yield replace(_QUICK, name="other-model", description="the answer names another model", answered_model="other")
    yield replace(_QUICK, name="not-streamed", description="a whole answer to who asked for a stream", streamed=False)
    yield replace(_QUICK, name="wide-characters", description="characters of 2 to 4 bytes", characters="multibyte")
    yield replace(_QUICK, name="escaped-characters", description="wide characters as \\u escapes", characters="escaped")


def _packets() -> Iterator[Scenario]:
    yield replace(
        _QUICK,
        name="characters-split-by-event",
        description="every second token is half a character in an empty event",
        characters="split_by_event",
        tokens=15,
    )
    yield replace(
        _QUICK,
        name="characters-split-by-event-counted",
        description="the same with the count so far in every event",
        characters="split_by_event",
        tokens=15,
        usage="each",
        dialect="openai",
    )
    yield replace(
        _QUICK,
        name="characters-split-by-packet",
        description="every packet ends in the middle of a character",
        characters="split_by_packet",
        tokens=6,
    )
    yield replace(
        _QUICK,
        name="split-frames",
        description="every event in seven packets, cut in the chunk header, in names and in line ends",
        split_at=(1, 3, 5, 7, 12, 40),
        split_gap_ms=0.5,
        tokens=6,
    )
    yield replace(
        _QUICK, name="four-a-packet", description="four events in each packet", events_per_packet=4, tokens=16
    )
    yield replace(_QUICK, name="framed-by-length", description="a stream with Content-Length", framing="content-length")
    yield replace(
        _QUICK, name="framed-by-close", description="the end of the connection ends the body", framing="close"
    )


def _failures() -> Iterator[Scenario]:
    yield replace(
        _QUICK, name="error-at-once", description="an error as the first event under status 200", error="data"
    )
    yield replace(_QUICK, name="error-in-stream", description="an error after 5 tokens", error="data", error_after=5)
    yield replace(
        _QUICK,
        name="error-named-event",
        description="`event: error` after 5 tokens",
        error="event",
        error_after=5,
        dialect="openai",
    )
    yield replace(
        _QUICK,
        name="error-counted",
        description="an error after 5 counted tokens",
        error="data",
        error_after=5,
        usage="each",
    )


def _closings() -> Iterator[Scenario]:
    cuts = (("clean", "between two events"), ("mid_event", "in the middle of an event"), ("reset", "by a TCP reset"))
    for close, words in cuts:
        cut = replace(_QUICK, close=close, close_after=5)  # type: ignore[arg-type]
        name = f"closed-{close.replace('_', '-')}"
        yield replace(cut, name=name, description=f"closed after 5 tokens, {words}")
        if close != "reset":
            yield replace(
                cut,
                name=f"{name}-unframed",
                description=f"the same where the end of the connection ends the body ({words})",
                framing="close",
            )
    yield replace(
        _QUICK,
        name="closed-short-of-length",
        description="closed after 5 tokens of a body with Content-Length",
        close="clean",
        close_after=5,
        framing="content-length",
    )
    yield replace(
        _QUICK,
        name="closed-before-finish",
        description="all tokens, then closed without a finish reason",
        close="clean",
        close_after=12,
        framing="close",
    )
    yield replace(
        _QUICK,
        name="nothing",
        description="status 200 and an empty body",
        tokens=0,
        first_events=(),
        usage="missing",
        finish_reason=None,
        done=False,
    )


def _refusals() -> Iterator[Scenario]:
    plain = ((401, "no key"), (404, "no such model"), (429, "too many requests"), (500, "broken"), (503, "overloaded"))
    for status, words in plain:
        yield replace(_QUICK, name=f"refused-{status}", description=words, refuse_status=status, ttft_ms=5)
    yield replace(
        _QUICK,
        name="refused-429-retry-after",
        description="too many requests, with Retry-After",
        refuse_status=429,
        retry_after="2",
    )
    yield replace(
        _QUICK,
        name="refused-503-retry-after",
        description="overloaded, as plain text, with Retry-After",
        refuse_status=503,
        refuse_body="text",
        retry_after="1",
    )
    yield replace(
        _QUICK,
        name="refused-500-text",
        description="broken, as plain text",
        refuse_status=500,
        refuse_body="text",
    )
    yield replace(
        _QUICK,
        name="every-third-refused",
        description="every third request is refused with 503",
        refuse_status=503,
        refuse_every=3,
    )


def _ollama() -> Iterator[Scenario]:
    api = replace(_QUICK, dialect="ollama")
    yield replace(api, name="ollama", description="Ollama's lines of JSON")
    yield replace(
        api,
        name="ollama-cached-prompt",
        description="a wholly cached prompt, whose count Ollama then omits",
        prompt_tokens=39,
        cached_tokens=39,
    )
    yield replace(api, name="ollama-thinking", description="5 tokens of thinking first", reasoning_tokens=5)
    yield replace(
        api, name="ollama-error-line", description="an error line under status 200", error="data", error_after=3
    )
    yield replace(api, name="ollama-no-last-line", description="the line with `done` never comes", finish_reason=None)
    yield replace(
        api,
        name="ollama-split-lines",
        description="lines cut into packets",
        split_at=(2, 9, 30),
        split_gap_ms=0.5,
        tokens=6,
    )


_GROUPS = (_timing, _tokens, _events, _packets, _failures, _closings, _refusals, _ollama)

SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for group in _GROUPS for scenario in group()}
"""The catalogue, by name."""
