"""Where the transient at the beginning of a series ends: MSER-5. And whether its end is unlike its beginning.

White, K. P. (1997), "An effective truncation heuristic for bias reduction in simulation output", Simulation 69(6),
323-334; the batches of five are from White, Cobb & Spratt (2000), Winter Simulation Conference, 755-760.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import quantiles
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BATCH", "DRIFT", "MIN_VALUES", "Truncation", "drift", "mser5"]

BATCH = 5
"""Values of one batch mean."""
MIN_VALUES = 10 * BATCH
"""Fewer values have no transient that could be told from noise: nothing is dropped."""

DRIFT = 2.0
"""A median that changes by more than this factor is another one."""


@dataclass(frozen=True, slots=True)
class Truncation:
    """What to drop from the beginning of a series."""

    count: int
    """So many values, at most half of them."""
    settled: bool
    """False when the best point is the last that was allowed: the series had no steady part long enough."""


def mser5(values: Sequence[float]) -> Truncation:
    """Return how many of `values`, in the order in which they arose, belong to the transient.

    The values are put into k batch means Y of five (up to four values at the end are left out). Dropping d batches
    leaves a mean whose squared standard error is estimated by

        MSER(d) = sum over j > d of (Y_j - mean of Y after d)^2 / (k - d)^2

    and the d with the smallest one is taken, the smaller d of equal ones. d is at most k / 2, because near the end of
    the series the statistic rests on a handful of batches and is small by chance.
    """
    if len(values) < MIN_VALUES:
        return Truncation(0, settled=True)
    batches = [math.fsum(values[at : at + BATCH]) / BATCH for at in range(0, len(values) - BATCH + 1, BATCH)]
    most = len(batches) // 2
    errors = _squared_standard_errors(batches)
    best = min(range(most + 1), key=errors.__getitem__)
    return Truncation(best * BATCH, settled=best < most)


def drift(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the medians of the first and the last fifth of `values`, in the order in which they arose, if they differ.

    They do when the larger is more than `DRIFT` times the smaller, and the middle halves of the two fifths do not
    overlap: of values that come in two kinds the median alone jumps by chance. None when they do not differ, and of
    fewer than `MIN_VALUES`. MSER-5 tells only of beginnings that are unlike the rest; this tells of ends, too.
    """
    if len(values) < MIN_VALUES:
        return None
    fifth = len(values) // 5
    first, last = (quantiles(part, n=4, method="inclusive") for part in (values[:fifth], values[-fifth:]))
    low, high = (first, last) if first[1] < last[1] else (last, first)
    return (first[1], last[1]) if high[1] > DRIFT * low[1] and high[0] > low[2] else None


def _squared_standard_errors(batches: Sequence[float]) -> list[float]:
    """Return MSER(d) for d = 0, 1, … by Welford's update from the end, which keeps digits where squares would not."""
    found = []
    mean = squares = 0.0
    for n, value in enumerate(reversed(batches), 1):
        step = value - mean
        mean += step / n
        squares += step * (value - mean)
        found.append(squares / n**2)
    return found[::-1]
