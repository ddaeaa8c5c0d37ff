"""Two configurations side by side: by what factor they differ in each case, and how sure that is.

The ratio of a case is the Hodges-Lehmann estimate on logarithms: the median of log(b / a) over all pairs of a request
of each. Its interval is that of the Mann-Whitney test (Conover, Practical Nonparametric Statistics, 3rd ed., 5.4),
which knows only how requests scatter within two sessions. Two sessions on an unchanged server differ too, and more
requests do not shrink that, so the interval is widened by it: with h its half-width and s the standard deviation of a
session, both on logarithms, to sqrt(h^2 + 2 (1.96 s)^2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_modellens.report.plots.series import thinned

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SESSION_SD", "START_SD", "Ratio", "overall", "ratio"]

SESSION_SD = 0.02
"""Of one session, relative, where nobody measured it: clocks, neighbours, the state of the machine."""
START_SD = 0.005
"""Of one start of a server within a session, likewise."""

_Z = 1.959963984540054
_MOST = 600
"""Values of each side; of more, as many at even ranks."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """How the second is to the first: 1.2 is a fifth more."""

    value: float
    low: float | None
    """Ends of the 95 % interval; None when there are too few requests for one."""
    high: float | None

    @property
    def is_different(self) -> bool:
        """True when the interval excludes 1."""
        return self.low is not None and self.high is not None and not self.low <= 1 <= self.high


def ratio(first: Sequence[float], second: Sequence[float], *, sd: float) -> Ratio | None:
    """Return by what factor `second` differs from `first`; None without a positive value on both sides.

    Args:
        first: a metric of the requests of one configuration.
        second: the same of the other.
        sd: relative standard deviation of what all requests of a side share, and the other side does not.
    """
    import numpy as np

    one, other = (thinned((value for value in values if value > 0), _MOST) for values in (first, second))
    if not one or not other:
        return None
    differences = np.sort(np.subtract.outer(np.log(other), np.log(one)), axis=None)
    middle = float(np.median(differences))
    cut = _rank(len(one), len(other))
    if cut is None:
        return Ratio(math.exp(middle), None, None)
    # An interval is as wide as the root of 1/n + 1/m: of fewer values, wider than that of all.
    shrink = math.sqrt((1 / len(first) + 1 / len(second)) / (1 / len(one) + 1 / len(other)))
    below, above = middle - float(differences[cut - 1]), float(differences[-cut]) - middle
    low, high = (math.hypot(shrink * half, math.sqrt(2) * _Z * sd) for half in (below, above))
    return Ratio(math.exp(middle), math.exp(middle - low), math.exp(middle + high))


def overall(ratios: Sequence[Ratio], *, sd: float) -> Ratio | None:
    """Return the geometric mean of the ratios of several cases; None without ratios.

    Cases with too few requests for an interval are left out, unless there are no others. The cases share the sessions,
    so what these differ by does not shrink with the number of cases.
    """
    sure = [one for one in ratios if one.low is not None]
    kept = sure or ratios
    if not kept:
        return None
    middle = math.fsum(math.log(one.value) for one in kept) / len(kept)
    if not sure:
        return Ratio(math.exp(middle), None, None)
    halves = [math.log(one.high / one.low) / 2 for one in kept if one.low is not None and one.high is not None]
    shared = math.sqrt(2) * _Z * sd
    own = math.fsum(max(0.0, half * half - shared * shared) for half in halves) / len(kept) ** 2
    half = math.hypot(math.sqrt(own), shared)
    return Ratio(math.exp(middle), math.exp(middle - half), math.exp(middle + half))


def _rank(n: int, m: int) -> int | None:
    """Return k so that the k-th smallest and largest of n m differences are a 95 % interval; None for too few.

    k is the largest with P(U < k) <= 0.025, U the Mann-Whitney statistic without a difference: counted exactly for
    small samples, normal for others.
    """
    if n * m > 400:
        return max(1, math.floor(n * m / 2 - _Z * math.sqrt(n * m * (n + m + 1) / 12)))
    limit, below, rank = 0.025 * math.comb(n + m, n), 0, 0
    for ways in _ways(n, m):
        below += ways
        if below > limit:
            break
        rank += 1
    return rank or None


def _ways(n: int, m: int) -> list[int]:
    """Return, for u from 0 on, in how many orders of n and m values the statistic is u (a Gaussian binomial)."""
    ways = [1] + [0] * (n * m)
    for k in range(1, n + 1):
        # Times (1 - q^(m + k)) / (1 - q^k), term by term.
        for u in range(n * m, m + k - 1, -1):
            ways[u] -= ways[u - m - k]
        for u in range(k, n * m + 1):
            ways[u] += ways[u - k]
    return ways
