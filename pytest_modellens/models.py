"""The data classes of the provider contract.

The contract's fields come first and keep their names, units and order; fields below them are additions, each with a
default, so that code written for the original contract runs unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "SEVERAL_ANSWERS",
    "APICallMetrics",
    "HardwareMetrics",
    "Message",
    "Model",
    "RunRequest",
    "RunResult",
    "several_answers",
]

SEVERAL_ANSWERS = ("n", "best_of")
"""Body fields of OpenAI's API that ask for so many answers to one request."""

Message = dict[str, Any]
"""One chat message as OpenAI-compatible servers take it: `{"role": …, "content": …}`."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model that a provider can serve."""

    id: str
    name: str
    provider: str
    parameters: str | None = None
    """Parameter count or tag ("7B", "latest"); None when the server does not say."""
    quantization: str | None = None
    """Quantization level ("Q4_K_M"); None when the server does not say."""
    size_bytes: int | None = None
    """Size of the weights; None when the server does not say."""
    aliases: tuple[str, ...] = ()
    """Other names that the server takes for this model."""
    context_length: int | None = None
    """Tokens one request may hold, prompt and answer together; None when the server does not say."""
    cost_tier: str | None = None
    """What it costs, roughly: free, low, medium, high or extreme; None when the server does not say."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One prompt and how it is to be sampled."""

    prompt: str
    model: str
    temperature: float = 0.0
    max_tokens: int = 4096
    top_p: float = 1.0
    system_prompt: str | None = None
    stream: bool = False
    messages: tuple[Message, ...] | None = None
    """A whole conversation; when given, `prompt` and `system_prompt` are not sent."""
    seed: int | None = None
    """Sampling seed; None sends none."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """More HTTP headers. May hold secrets: never shown, never recorded."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """More fields of the request body, sent as they are; `msgspec.UNSET` leaves out one that is always sent."""
    cache: str = "any"
    """What the server's prompt cache may do: "any", "cold" (must not be used) or "warm" (primed before)."""
    timeout_s: float | None = None
    """Longest total time; None takes the provider's own."""

    def conversation(self) -> list[Message]:
        """Return the messages to send."""
        if self.messages is not None:
            return list(self.messages)
        system = [{"role": "system", "content": self.system_prompt}] if self.system_prompt is not None else []
        return [*system, {"role": "user", "content": self.prompt}]


def several_answers(fields: Mapping[str, Any]) -> str | None:
    """Return which of a request body's `fields` asks for more than one answer; None when none does.

    The times and the counted tokens of such a request are those of all its answers together, and of no single one.
    """
    return next((name for name in SEVERAL_ANSWERS if isinstance(fields.get(name), int) and fields[name] > 1), None)


@dataclass(frozen=True, slots=True)
class RunResult:
    """What one successful request brought; metric definitions are in docs/metrics.md."""

    response: str
    model: str
    provider: str
    ttft_ms: float | None
    """Time to first token; None when not streamed or when no token came."""
    total_time_ms: float | None
    tokens_per_second: float | None
    """Generation throughput, 1000 / TPOT; for a request that was not streamed, completion tokens / total time."""
    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    tokens_source: str = "unknown"
    """Where the token counts come from: usage, per_event_usage, token_ids, events (an estimate) or unknown."""
    ttfo_ms: float | None = None
    """Time to first visible output."""
    tpot_ms: float | None = None
    """Time per output token after the first event."""
    e2e_tokens_per_second: float | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    finish_reason: str | None = None
    reasoning: str = ""
    """Reasoning text, apart from the visible answer."""
    clock: str = "perf_counter"
    """What stamped arrivals: "kernel" (receive time stamps) or "perf_counter" (when this process read them)."""

    @property
    def tokens_are_estimated(self) -> bool:
        """True when one event was counted as one token because the server gave no count."""
        return self.tokens_source == "events"


@dataclass(frozen=True, slots=True)
class APICallMetrics:
    """Timing of one chat completion, in the contract's units: seconds."""

    ttft: float | None
    total_time: float | None
    tokens_per_second: float | None
    total_tokens: int | None
    prompt_tokens: int | None
    completion_tokens: int | None


@dataclass(frozen=True, slots=True)
class HardwareMetrics:
    """One look at the machine. A value that could not be read is None, never 0."""

    cpu_percent: float | None
    """Whole machine, 100 = every core busy."""
    ram_used_mb: float | None
    ram_total_mb: float | None
    gpu_available: bool
    gpu_used_mb: float | None
    swap_used_mb: float | None
