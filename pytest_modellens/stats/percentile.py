"""Percentiles, and the intervals that a sample of their size supports.

The intervals are distribution-free. Of n independent values, the number at or below the true p-th percentile is
binomial, B ~ Bin(n, p/100); so the r-th and s-th smallest enclose it with probability P(r <= B <= s - 1), whatever the
distribution (Conover, Practical Nonparametric Statistics, 3rd ed., 3.2; Hahn & Meeker, Statistical Intervals, 5.2-5.3).
A sample that is too small for the confidence asked has no interval: that is None here, never a guess.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "Interval",
    "mean",
    "median_interval",
    "min_n_for_upper_bound",
    "one_sided_bounds",
    "percentile",
    "percentile_interval",
    "wilson",
]


@dataclass(frozen=True, slots=True)
class Interval:
    """Two bounds that enclose the true value with a known confidence."""

    low: float
    high: float
    confidence_reached: float
    """From 0 to 1. Order statistics come in steps, so it is at or above what was asked."""


def mean(values: Iterable[float]) -> float | None:
    """Return the arithmetic mean; None without values."""
    kept = list(values)
    return math.fsum(kept) / len(kept) if kept else None


def percentile(values: Iterable[float], p: float) -> float | None:
    """Return the p-th percentile (p from 0 to 100) by linear interpolation; None without values.

    With the values sorted as x[0]..x[n-1] and h = (n - 1) p / 100, it is x[floor h] + (h - floor h) (x[floor h + 1] -
    x[floor h]): definition 7 of Hyndman & Fan (1996), the default of numpy, pandas and R.
    """
    if not 0 <= p <= 100:
        raise ValueError(f"percentile: must be from 0 to 100 (got {p!r})")
    ranked = _ranked(values)
    if not ranked:
        return None
    h = (len(ranked) - 1) * (p / 100)
    below = math.floor(h)
    low, high = ranked[below], ranked[min(below + 1, len(ranked) - 1)]
    share = h - below
    # From the nearer end, as numpy does: equal neighbours give exactly themselves, and the result never decreases in p.
    return low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)


def median_interval(values: Iterable[float], confidence: float = 0.95) -> Interval | None:
    """Return the interval of the median; None when n does not support it (95 % needs n >= 6)."""
    return percentile_interval(values, 50, confidence=confidence)


def percentile_interval(values: Iterable[float], p: float, *, confidence: float = 0.95) -> Interval | None:
    """Return the equal-tailed interval of the p-th percentile; None when n does not support it.

    Its ends are x(r) and x(s): r the largest rank with P(B < r) <= (1 - confidence) / 2, s the smallest with P(B >= s)
    no larger than that; confidence reached = P(r <= B <= s - 1).
    """
    _check(p, confidence)
    ranked = _ranked(values)
    n, tail = len(ranked), (1 - confidence) / 2
    r = _rank(n, p / 100, tail)
    # P(Bin(n, p) >= s) = P(Bin(n, 1 - p) <= n - s): the upper rank is the lower one seen from above.
    from_above = _rank(n, 1 - p / 100, tail)
    if r is None or from_above is None:
        return None
    s = n + 1 - from_above
    reached = _binomial_cdf(s - 1, n, p / 100) - _binomial_cdf(r - 1, n, p / 100)
    return Interval(ranked[r - 1], ranked[s - 1], reached)


def one_sided_bounds(
    values: Iterable[float], p: float, *, tail: float, inflation: float = 1.0
) -> tuple[float | None, float | None]:
    """Return what the p-th percentile is below, and above, with a probability of `tail` each; None: n is too small.

    Values that depend on each other are worth 1 / `inflation` of as many that do not: the ranks are those of fewer.
    """
    _check(p, 1 - tail)
    ranked = sorted(value for value in values if not math.isnan(value))
    worth = math.floor(len(ranked) / inflation + 1e-9)
    low, high = _rank(worth, p / 100, tail), _rank(worth, 1 - p / 100, tail)
    places = [None if rank is None else (rank - 1) * len(ranked) // worth for rank in (low, high)]
    return (
        None if places[0] is None else ranked[places[0]],
        None if places[1] is None else ranked[-1 - places[1]],
    )


def min_n_for_upper_bound(p: float, confidence: float = 0.95) -> int:
    """Return the smallest n whose maximum bounds the p-th percentile: the first with (p / 100)^n <= 1 - confidence.

    At 95 %: 29 for p90, 59 for p95, 299 for p99.
    """
    _check(p, confidence)
    return max(1, math.ceil(round(math.log(1 - confidence) / math.log(p / 100), 9)))


def wilson(successes: int, n: int, *, confidence: float = 0.95) -> Interval | None:
    """Return the Wilson score interval of a proportion; None when n is 0.

    With z the normal quantile and q = successes / n: (q + z^2/2n +- z sqrt(q(1 - q)/n + z^2/4n^2)) / (1 + z^2/n)
    (Wilson 1927). Unlike q +- z sqrt(q(1 - q)/n) it stays within 0..1 and does not shrink to a point at 0 or n.
    """
    _check(50, confidence)
    if not 0 <= successes <= n:
        raise ValueError(f"successes: must be from 0 to n = {n} (got {successes})")
    if n == 0:
        return None
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    q, z2n = successes / n, z * z / n
    middle, half = q + z2n / 2, math.sqrt(q * (1 - q) * z2n + z2n * z2n / 4)
    low = 0.0 if successes == 0 else (middle - half) / (1 + z2n)
    high = 1.0 if successes == n else (middle + half) / (1 + z2n)
    return Interval(low, high, confidence)


def _ranked(values: Iterable[float]) -> list[float]:
    """Return the values in rising order."""
    if not isinstance(values, array):
        return sorted(values)
    # A report's come as an array and may be millions: this takes a fifth of the time, and numpy is there already.
    import numpy as np

    ranked: list[float] = np.sort(np.asarray(values)).tolist()
    return ranked


def _rank(n: int, share: float, tail: float) -> int | None:
    """Return the largest r >= 1 with P(Bin(n, share) < r) <= tail; None when there is none."""
    # The tails are compared with room for rounding: (0.5)^6 twice must count as 1/32 exactly.
    low, high = 0, n
    while low < high:
        middle = (low + high + 1) // 2
        if _binomial_cdf(middle - 1, n, share) <= tail * (1 + 1e-12):
            low = middle
        else:
            high = middle - 1
    return low or None


def _binomial_cdf(k: int, n: int, share: float) -> float:
    # scipy.special holds the same function as scipy.stats.binom.cdf and imports in a quarter of the time.
    from scipy.special import bdtr

    return float(bdtr(k, n, share))


def _check(p: float, confidence: float) -> None:
    if not 0 < p < 100:
        raise ValueError(f"percentile: must be between 0 and 100 (got {p!r})")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: must be between 0 and 1 (got {confidence!r})")
