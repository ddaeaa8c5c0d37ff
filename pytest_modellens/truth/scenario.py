"""What the truth server is told to do with a request."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields
from itertools import cycle, islice
from math import log, sqrt
from typing import TYPE_CHECKING, Literal

from pytest_modellens.errors import ConfigError
from pytest_modellens.truth.expected import expect

if TYPE_CHECKING:
    from pytest_modellens.truth.expected import Expected

__all__ = ["MAX_TOKENS", "Dialect", "Distribution", "Scenario"]

Dialect = Literal["openai", "ollama"]

MAX_TOKENS = 100_000
_MAX_MS = 3_600_000.0
_REFUSALS = (400, 599)


@dataclass(frozen=True, slots=True)
class Distribution:
    """Gaps drawn at random, the same ones for every request: the seed decides them."""

    distribution: Literal["exponential", "lognormal", "gamma"]
    mean_ms: float
    cv: float = 1.0
    """Standard deviation / mean; an exponential distribution has 1 whatever is said here."""
    seed: int = 0

    def __post_init__(self) -> None:
        _in_range("gap_ms.mean_ms", self.mean_ms, 0.0, _MAX_MS)
        if not 0 < self.cv <= 100:
            raise ConfigError(f"scenario: 'gap_ms.cv' must be above 0 and at most 100 (got {self.cv!r})")

    def draw(self, count: int) -> list[float]:
        """Return the first `count` gaps, in ms."""
        if not self.mean_ms:
            return [0.0] * count
        source = random.Random(self.seed)  # noqa: S311  # a schedule is no secret
        if self.distribution == "exponential":
            return [source.expovariate(1 / self.mean_ms) for _ in range(count)]
        square = self.cv**2
        if self.distribution == "gamma":
            return [source.gammavariate(1 / square, self.mean_ms * square) for _ in range(count)]
        spread = log(1 + square)
        return [source.lognormvariate(log(self.mean_ms) - spread / 2, sqrt(spread)) for _ in range(count)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One scripted answer. Times are ms after the request arrived; a token event is one that tokens came with.

    >>> Scenario(ttft_ms=100, gap_ms=20, tokens=50, usage="missing")
    """

    name: str = "inline"
    description: str = ""
    dialect: Literal["any", "openai", "ollama"] = "any"
    """The API that it can be asked for through."""

    ttft_ms: float = 50.0
    """First token event."""
    gap_ms: float | tuple[float, ...] | Distribution = 10.0
    """Between token events: always the same, a list (begun again at its end), or drawn. The finish event comes one gap
    after the last token event; usage, `[DONE]` and the end of the body follow it at once."""
    headers_ms: float = 0.0
    """Headers, and the first events after them."""
    slow_from: int | None = None
    """From the how many-th request of this scenario on all times are multiplied by `slow_factor`; None: never."""
    slow_factor: float = 1.0

    tokens: int = 16
    """Completion tokens, reasoning included. The request's `max_tokens` is not looked at."""
    tokens_per_event: int | tuple[int, ...] = 1
    """A list is begun again at its end. An event never holds both reasoning and content."""
    reasoning_tokens: int = 0
    """How many of the tokens, the first ones, are reasoning."""
    reasoning_field: Literal["reasoning_content", "reasoning"] = "reasoning_content"
    """Where the `openai` dialect puts reasoning; `ollama` has `thinking`."""
    characters: Literal["ascii", "multibyte", "escaped", "split_by_event", "split_by_packet"] = "ascii"
    """What the text is made of. Split by event: every second token is half a character, and its event is empty, as with
    vLLM. Split by packet: each packet ends in the middle of a character."""
    prompt_tokens: int = 8
    cached_tokens: int | None = None
    """How many of them a prompt cache had; None: not reported."""

    first_events: tuple[Literal["role", "null", "empty", "comment"], ...] = ("role",)
    """What comes before any token: a role alone, null or empty content, an SSE comment. `ollama` has only empty."""
    usage: Literal["end", "each", "finish", "missing"] = "end"
    """Token counts in an event of their own at the end; there and in every event; on the finish event; nowhere.
    Whether the request asked for them (`include_usage`) is not looked at."""
    finish_reason: str | None = "stop"
    """None: it is never sent."""
    finish_on_text: bool = False
    """Whether the finish reason comes with the last token event instead of an event of its own."""
    done: bool = True
    """Whether `[DONE]` ends the stream; `ollama` has none."""
    answered_model: str | None = None
    """Model that the answer names; None: the one asked for."""

    streamed: bool = True
    """False: the answer comes whole, when the stream would have ended, even to who asked for a stream."""
    framing: Literal["chunked", "content-length", "close"] = "chunked"
    events_per_packet: int = 1
    """Token events handed to the kernel by one send, when the first of them is due."""
    split_at: tuple[int, ...] = ()
    """Where every packet is cut into several sends; bytes on the wire, chunk header included."""
    split_gap_ms: float = 1.0
    """Between the sends of a cut packet."""

    stall_ms: float = 0.0
    """Silence on top of the gap, once, after `stall_after` token events."""
    stall_after: int = 1
    error: Literal["no", "data", "event"] = "no"
    """An error in place of the next event after `error_after` token events: as data, or as SSE `event: error`. `ollama`
    sends its error line for both; an answer that is not streamed is status 500."""
    error_after: int = 0
    close: Literal["no", "clean", "mid_event", "reset"] = "no"
    """The connection is closed after `close_after` token events: between events, in the next one, or by a TCP reset. Of
    an answer that is not streamed half is sent."""
    close_after: int = 0

    refuse_status: int | None = None
    """Status that requests are refused with; None: they are not."""
    refuse_every: int = 1
    """Refuses the k-th, 2k-th, … request of this scenario."""
    refuse_body: Literal["json", "text"] = "json"
    retry_after: str | None = None
    """Value of the header `Retry-After`."""

    def __post_init__(self) -> None:
        for key in ("ttft_ms", "headers_ms", "split_gap_ms", "stall_ms"):
            _in_range(key, getattr(self, key), 0.0, _MAX_MS)
        for gap in self.gap_ms if isinstance(self.gap_ms, tuple) else (self.gap_ms,):
            if not isinstance(gap, Distribution):
                _in_range("gap_ms", gap, 0.0, _MAX_MS)
        _in_range("slow_factor", self.slow_factor, 0.001, 1000.0)
        _in_range("tokens", self.tokens, 0, MAX_TOKENS)
        _in_range("reasoning_tokens", self.reasoning_tokens, 0, self.tokens)
        _in_range("prompt_tokens", self.prompt_tokens, 0, 10**9)
        _in_range("cached_tokens", self.cached_tokens or 0, 0, self.prompt_tokens)
        for key in ("slow_from", "events_per_packet", "refuse_every"):
            _in_range(key, 1 if getattr(self, key) is None else getattr(self, key), 1, 10**9)
        for count in self.tokens_per_event if isinstance(self.tokens_per_event, tuple) else (self.tokens_per_event,):
            _in_range("tokens_per_event", count, 1, MAX_TOKENS)
        self._check_lists()
        self._check_together()

    def _check_lists(self) -> None:
        for key in ("gap_ms", "tokens_per_event"):
            if getattr(self, key) == ():
                raise ConfigError(f"scenario: '{key}' must not be an empty list")
        if list(self.split_at) != sorted({*self.split_at}) or (self.split_at and self.split_at[0] < 1):
            raise ConfigError(f"scenario: 'split_at' must rise, from 1 on (got {list(self.split_at)})")
        if self.refuse_status is not None:
            _in_range("refuse_status", self.refuse_status, *_REFUSALS)
        if self.retry_after is not None and not (self.retry_after.isascii() and self.retry_after.isprintable()):
            raise ConfigError(f"scenario: 'retry_after' must be printable ASCII (got {self.retry_after!r})")

    def _check_together(self) -> None:
        if self.headers_ms > self.ttft_ms:
            raise ConfigError(f"scenario: 'headers_ms' must not exceed 'ttft_ms' ({self.headers_ms} > {self.ttft_ms})")
        if self.error != "no" and self.close != "no":
            raise ConfigError("scenario: 'error' and 'close' exclude each other (both end the stream)")
        count = len(self.token_groups())
        for key, active in (
            ("stall_after", self.stall_ms > 0),
            ("error_after", self.error != "no"),
            ("close_after", self.close != "no"),
        ):
            if active:
                _in_range(key, getattr(self, key), 0, count)

    def gaps(self, count: int) -> list[float]:
        """Return the first `count` gaps between token events, in ms."""
        gap = self.gap_ms
        if isinstance(gap, Distribution):
            return gap.draw(count)
        return list(islice(cycle(gap), count)) if isinstance(gap, tuple) else [float(gap)] * count

    def token_groups(self) -> list[int]:
        """Return the number of tokens of every token event."""
        sizes = self.tokens_per_event if isinstance(self.tokens_per_event, tuple) else (self.tokens_per_event,)
        groups: list[int] = []
        sent = 0
        for size in cycle(sizes):
            if sent == self.tokens:
                return groups
            # An event ends where reasoning ends.
            limit = self.reasoning_tokens if sent < self.reasoning_tokens else self.tokens
            groups.append(min(size, limit - sent))
            sent += groups[-1]
        raise AssertionError

    def refuses(self, number: int) -> bool:
        """Return whether the `number`-th request of this scenario, from 1, is refused."""
        return self.refuse_status is not None and number % self.refuse_every == 0

    def factor(self, number: int) -> float:
        """Return what all times of the `number`-th request are multiplied by."""
        return self.slow_factor if self.slow_from is not None and number >= self.slow_from else 1.0

    @property
    def turns(self) -> int:
        """Requests after which it has shown all that it does."""
        return max(self.refuse_every if self.refuse_status is not None else 1, self.slow_from or 1)

    def speaks(self, dialect: Dialect) -> bool:
        """Return whether this scenario can be asked for through that API."""
        return self.dialect in {"any", dialect}

    def expected(self, dialect: Dialect | None = None, *, stream: bool = True, number: int = 1) -> Expected:
        """Return what a right client must report.

        Args:
            dialect: the API it is asked through; None: the scenario's own, `openai` where it has both.
            stream: whether a stream is asked for.
            number: the how many-th request of this scenario it is, from 1.
        """
        chosen: Dialect = "ollama" if (dialect or self.dialect) == "ollama" else "openai"
        return expect(self, chosen, stream=stream, number=number)

    def changed_fields(self) -> dict[str, object]:
        """Return the fields that differ from their defaults."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}


def _in_range(key: str, value: float, low: float, high: float) -> None:
    # Written so that a NaN is refused, too.
    if not low <= value <= high:
        raise ConfigError(f"scenario: '{key}' must be from {low:g} to {high:g} (got {value!r})")
