"""Where the transient at the beginning of a series ends: MSER-5.

White, K. P. (1997), "An effective truncation heuristic for bias reduction in simulation output", Simulation 69(6),
323-334; the batches of five are from White, Cobb & Spratt (2000), Winter Simulation Conference, 755-760.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BATCH", "MIN_VALUES", "Truncation", "mser5"]

BATCH = 5
"""Values of one batch mean."""
MIN_VALUES = 10 * BATCH
"""Fewer values have no transient that could be told from noise: nothing is dropped."""


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
