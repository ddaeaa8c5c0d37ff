"""One measured call of a foreign module's `complete`, and the ladder: the best of what could be seen of it."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_modellens.bridge.wiretext import Spoken, read_wire
from pytest_modellens.measure.timeline import TextEvent, TokenUsage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_modellens.bridge.proxy import Passed

__all__ = ["CURRENT", "RUNGS", "Call", "Standing", "stand", "usage_of"]

RUNGS = {
    1: "stream events",
    2: "older stream events",
    3: "the module's HTTP client",
    4: "a proxy in between",
    5: "nothing but its end",
}
"""Where the instants of a call come from, best first."""


@dataclass(slots=True, eq=False)
class Call:
    """What was seen of one call."""

    sent_ns: int
    streamed: list[Spoken] = field(default_factory=list)
    older: list[Spoken] = field(default_factory=list)
    exchanges: list[Passed] = field(default_factory=list)
    """What the tap on the HTTP client saw."""
    proxied: list[Passed] = field(default_factory=list)
    usage: dict[str, Any] | None = None
    """Of `llm:response`."""
    retries: int = 0
    continuations: int = 0
    request_ids: set[str] = field(default_factory=set)
    is_alone: bool = True
    """Whether no other call was under way at any time meanwhile."""

    @property
    def heard_ns(self) -> int | None:
        """When it last gave a sign of life; None before the first."""
        spoken = [one.at_ns for said in (self.streamed, self.older) for one in said[-1:]]
        passed = [one.pieces[-1][0] if one.pieces else one.sent_ns for one in self.exchanges]
        return max((*spoken, *passed), default=None)


CURRENT: ContextVar[Call | None] = ContextVar("modellens_amplifier_call", default=None)
"""The call that this task works for; the kernel's hooks run in copies of the emitter's context."""


class Standing(NamedTuple):
    """The rung that a call stands on."""

    rung: int
    events: tuple[TextEvent, ...]
    usage: dict[str, Any] | None
    """Counts seen on the wire."""


def stand(call: Call) -> Standing:
    """Return the best rung that has text, and the instants on it. Counts of the wire are taken whatever the rung."""
    tapped = [read_wire(passed.pieces, encoding=passed.encoding) for passed in call.exchanges]
    proxied = [read_wire(passed.pieces, encoding=passed.encoding) for passed in call.proxied]
    usage = next((wire.usage for wire in reversed([*proxied, *tapped]) if wire.usage), None)
    seen: tuple[Iterable[Spoken], ...] = (
        call.streamed,
        call.older,
        [spoken for wire in tapped for spoken in wire.spoken],
        [spoken for wire in proxied for spoken in wire.spoken],
    )
    for rung, spoken in enumerate(seen, start=1):
        if events := _events(sorted(spoken, key=_at)):
            return Standing(rung, events, usage)
    return Standing(5, (), usage)


def usage_of(sources: Sequence[tuple[str, Any]], *, events: int) -> tuple[TokenUsage, str]:
    """Return the first counts that any source has, and its name; else one token for each event, an estimate."""
    for name, source in sources:
        prompt, completion = _count(source, _PROMPT), _count(source, _COMPLETION)
        if prompt is not None and completion is not None:
            total = _count(source, ("total_tokens", "totalTokenCount"))
            usage = TokenUsage(
                prompt=prompt,
                completion=completion,
                total=prompt + completion if total is None else total,
                reasoning=_count(source, ("reasoning_tokens", "thoughtsTokenCount")),
                cached=_count(source, _CACHED),
                source="usage",
            )
            return usage, name
    if events:
        return TokenUsage(completion=events, source="events"), "events"
    return TokenUsage(), "none"


_CACHED = ("cache_read_tokens", "cached_tokens", "cache_read_input_tokens", "cachedContentTokenCount")
_PROMPT = ("input_tokens", "prompt_tokens", "input", "prompt_eval_count", "promptTokenCount")
_COMPLETION = ("output_tokens", "completion_tokens", "output", "eval_count", "candidatesTokenCount")


def _count(source: Any, names: Iterable[str]) -> int | None:
    for name in names:
        value = source.get(name) if isinstance(source, dict) else getattr(source, name, None)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def _at(spoken: Spoken) -> int:
    return spoken.at_ns


def _events(spoken: Iterable[Spoken]) -> tuple[TextEvent, ...]:
    return tuple(TextEvent(at_ns, kind, None, kind == "content") for at_ns, kind, _ in spoken)
