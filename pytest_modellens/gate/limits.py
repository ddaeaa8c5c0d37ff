"""What may change by how much: `tokens_per_second:-5%`, `ttft_ms.p95:+20%`, `goodput:-2pp`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from pytest_modellens.errors import ConfigError
from pytest_modellens.suite.limits import METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GATED", "GOODPUT", "GateLimit", "RelativeLimit", "check_name", "relative_limits"]

GOODPUT = "goodput"
"""Share of requests that succeeded and met every SLO; its limits are percentage points."""
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0}
_POOLED = {"itl_ms", "inter_chunk_ms"}
GATED = {name: metric.better for name, metric in METRICS.items() if metric.better and name not in _POOLED}
GATED[GOODPUT] = "higher"
"""Which direction is better, by metric that a gate can judge."""


@dataclass(frozen=True, slots=True)
class GateLimit:
    """What a limit of the gate is about."""

    name: str
    """As given: the metric, with its percentile if it has one; without, the typical request is judged."""

    @property
    def metric(self) -> str:
        """The column."""
        return self.name.partition(".")[0]

    @property
    def percentile(self) -> float | None:
        """From 0 to 100; None where the typical request is judged."""
        return PERCENTILES.get(self.name.partition(".")[2])

    @property
    def is_share(self) -> bool:
        """True for a share of requests."""
        return self.metric == GOODPUT


@dataclass(frozen=True, slots=True)
class RelativeLimit(GateLimit):
    """How far a metric may move in its bad direction."""

    limit: float
    """Signed: −0.05 means no more than 5 % lower; for goodput, no more than 5 percentage points."""

    @property
    def sign(self) -> int:
        """What turns a rise into a gain: 1 where higher is better, −1 where lower is."""
        return 1 if self.limit < 0 else -1

    def distance(self, factor: float = 1.0) -> float:
        """Return `factor` times the limit as a distance on the scale of the tests (log ratio, or share); may be inf."""
        change = factor * self.limit
        if self.is_share:
            return abs(change)
        return abs(math.log1p(change)) if change > -1 else math.inf

    def change(self, effect: float) -> float:
        """Return an effect (positive is better) as the change that people read: +0.1 is 10 % or 10 points higher."""
        return effect if self.is_share else math.expm1(min(self.sign * effect, 700.0))


def relative_limits(limits: Mapping[str, float]) -> tuple[RelativeLimit, ...]:
    """Return the limits, checked.

    Raises:
        ConfigError: a metric that does not exist or cannot be gated, or a limit of the wrong sign or size.
    """
    if not limits:
        raise ConfigError('limits: none given (such as {"tokens_per_second": -0.05})')
    return tuple(_checked(name, limit) for name, limit in limits.items())


def check_name(name: str) -> str:
    """Return which direction of a metric is better, "lower" or "higher".

    Raises:
        ConfigError: the gate can judge no such metric, or not this statistic of it.
    """
    metric, dot, statistic = name.partition(".")
    if metric in METRICS and metric not in GATED:
        raise ConfigError(f"{name}: cannot be gated ({', '.join(GATED)} can)")
    if metric not in GATED:
        close = get_close_matches(metric, GATED, 1)
        raise ConfigError(
            f"{name}: unknown metric" + (f" (did you mean {close[0]!r}?)" if close else f" ({', '.join(GATED)} exist)")
        )
    if dot and (metric == GOODPUT or statistic not in PERCENTILES):
        what = "goodput has no percentiles" if metric == GOODPUT else f"{', '.join(PERCENTILES)} exist"
        raise ConfigError(f"{name}: unknown statistic {statistic!r} ({what})")
    return GATED[metric]


def _checked(name: str, limit: float) -> RelativeLimit:
    better = check_name(name)
    if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not math.isfinite(limit) or limit == 0:
        raise ConfigError(f"{name}: its limit must be a number other than 0, such as −0.05 (got {limit!r})")
    sign = -1 if better == "higher" else 1
    if limit * sign < 0:
        raise ConfigError(
            f"{name}: a {better} value is better, so its limit must be {'negative' if sign < 0 else 'positive'} "
            f"(got {limit!r}; write {-limit!r})"
        )
    if limit <= -1:
        raise ConfigError(f"{name}: nothing can fall by {-limit:.0%} (got {limit!r}; −0.05 means 5 %)")
    return RelativeLimit(name, float(limit))
