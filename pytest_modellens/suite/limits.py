"""Limits: what a case's numbers must keep to, as `ttft_ms.p95: "< 500"`."""

from __future__ import annotations

import math
import operator
import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["METRICS", "STATISTICS", "Limit", "LimitError", "Metric", "parse_limit"]

STATISTICS = ("median", "mean", "min", "max", "p50", "p90", "p95", "p99")


@dataclass(frozen=True, slots=True)
class Metric:
    """What a limit has to know of a metric; formulas are in docs/metrics.md."""

    description: str
    better: str | None
    """Either "lower" or "higher"; None when a limit may have either direction."""
    streamed_only: bool = False
    """True when the metric does not exist for a request that is not streamed."""
    several_tokens: bool = False
    """True when the metric does not exist for an answer of one token."""

    @property
    def operators(self) -> tuple[str, ...]:
        """The comparisons that make sense, the usual one first."""
        return {"lower": ("<", "<="), "higher": (">", ">="), None: ("<", "<=", ">", ">=")}[self.better]


METRICS = {
    "ttft_ms": Metric("time to first token, ms", "lower", streamed_only=True),
    "ttfo_ms": Metric("time to first visible output, ms", "lower", streamed_only=True),
    "total_time_ms": Metric("time to the end of the answer, ms", "lower"),
    "tpot_ms": Metric("time per output token after the first, ms", "lower", streamed_only=True, several_tokens=True),
    "tokens_per_second": Metric("generation throughput, tokens/s", "higher", several_tokens=True),
    "e2e_tokens_per_second": Metric("tokens of the answer by its whole time, tokens/s", "higher"),
    "inter_chunk_ms": Metric("gap between two chunks of text, ms", "lower", streamed_only=True, several_tokens=True),
    "itl_ms": Metric("gap between two tokens, ms", "lower", streamed_only=True, several_tokens=True),
    "completion_tokens": Metric("tokens of the answer", None),
    "prompt_tokens": Metric("tokens of the prompt", None),
}

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_BOUND = re.compile(r"\s*(<=|>=|<|>)\s*([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)\s*(.*)", re.DOTALL)


class LimitError(ValueError):
    """A limit cannot be understood; the message says the right form."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One bound on one statistic of one metric."""

    metric: str
    statistic: str
    op: str
    bound: float

    def __str__(self) -> str:
        return f"{self.metric}.{self.statistic} {self.op} {self.bound:.15g}"

    def holds(self, value: float) -> bool:
        """Return whether `value`, in the metric's own unit, keeps to the limit; NaN never does."""
        return _OPERATORS[self.op](value, self.bound)


def parse_limit(key: str, value: object) -> Limit:
    """Return the limit written as `key: value`.

    Raises:
        LimitError: with a text that follows the key: "must be …".
    """
    metric, statistic = _split(key)
    known = METRICS[metric]
    example = f'"{known.operators[0]} 500"' if known.better == "lower" else f'"{known.operators[0]} 20"'
    match = _BOUND.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise LimitError(f"must be a comparison in quotes such as {example} (got {value!r:.80})")
    op, number, rest = match.groups()
    if rest:
        raise LimitError(f"must be a comparison and a number alone, such as {example}: its unit is that of {metric}"
                         f" (got {value!r:.80})")  # fmt: skip
    if op not in known.operators:
        raise LimitError(
            f"must use {' or '.join(known.operators)}, since a {known.better} {metric} is better (got {value!r:.80})"
        )
    bound = float(number)
    if not math.isfinite(bound) or (bound == 0 and op == "<"):
        raise LimitError(f"must have a bound that can be kept, such as {example} (got {value!r:.80})")
    return Limit(metric, statistic, op, bound)


def _split(key: str) -> tuple[str, str]:
    metric, _, statistic = key.rpartition(".")
    if not metric:
        raise LimitError("must be a metric, a dot and a statistic, such as ttft_ms.p95")
    if metric not in METRICS:
        raise LimitError(f"names an unknown metric {metric!r:.80}{_guess(metric, tuple(METRICS))}")
    if statistic not in STATISTICS:
        raise LimitError(f"names an unknown statistic {statistic!r:.80} ({', '.join(STATISTICS)} exist)")
    return metric, statistic


def _guess(word: str, known: tuple[str, ...]) -> str:
    close = get_close_matches(word, known, 1)
    return f" (did you mean {close[0]!r}?)" if close else f" ({', '.join(known)} exist)"
