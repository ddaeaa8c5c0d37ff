"""Whether a sample proves that a number of its source keeps to a bound, proves that it does not, or neither.

That the p-th percentile is below a bound means that p % of all values are. How many of n values are is binomial, so one
exact test decides on percentiles and on shares alike, whatever the distribution; the order-statistic intervals of
`stats.percentile` are its inversion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_modellens.stats.percentile import one_sided_bounds, percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["TAIL", "Proof", "of_extreme", "of_mean", "of_percentile", "of_share", "p_values"]

TAIL = 0.05
"""Probability that the true number is beyond an end of an interval, for each end; that a bound at the true number
itself seems to be kept."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What a sample says about a number and its bound."""

    estimate: float
    low: float | None
    high: float | None
    """Ends of the 90 % interval: the true number is beyond each with a probability of 5 %. None: n is too small."""
    p_kept: float
    """p-value of "the bound is not kept": a small one proves that it is."""
    p_broken: float
    """p-value of "the bound is kept"."""
    n: int
    needed: int
    """With fewer values than this, no sample proves that the bound is kept."""


def p_values(kept: int, n: int, share: float, *, inflation: float = 1.0) -> tuple[float, float]:
    """Return the p-values of "fewer than `share` of all keep" and of "at least `share` do", of n of which `kept` did.

    Values that depend on each other are worth 1 / `inflation` of as many that do not.
    """
    from scipy.special import bdtr, bdtrc

    worth = math.floor(n / inflation + 1e-9)
    # What is not a whole number is rounded to where it proves less.
    low, high = math.floor(kept * worth / n + 1e-9), math.ceil(kept * worth / n - 1e-9)
    return float(bdtrc(low - 1, worth, share)) if low else 1.0, float(bdtr(high, worth, share))


def of_share(kept: int, n: int, bound: float, *, inflation: float = 1.0) -> Proof:
    """Return what `kept` of `n` say of a share that must be `bound` or more; the interval is Wilson's."""
    from pytest_modellens.stats.percentile import wilson

    p_kept, p_broken = p_values(kept, n, bound, inflation=inflation)
    worth = math.floor(n / inflation + 1e-9)
    # Wilson's formula takes shares as well as counts.
    interval = wilson(round(kept * worth / n), worth, confidence=1 - 2 * TAIL)
    low, high = (interval.low, interval.high) if interval else (None, None)
    return Proof(kept / n, low, high, p_kept, p_broken, n, _needed(bound, inflation))


def of_percentile(
    samples: Sequence[Sequence[float]],
    p: float,
    holds: Callable[[float], bool],
    *,
    is_upper: bool,
    inflation: float = 1.0,
) -> Proof:
    """Return what values say of their p-th percentile.

    Args:
        samples: values by request, at least one in all. Those of one request may depend on each other without bounds,
            so that a request counts once, however many values it brought.
        p: from 0 to 100.
        holds: whether a value keeps to the bound.
        is_upper: True for a bound that values must be below.
        inflation: how much larger variances are since requests depend on each other.
    """
    values = [value for sample in samples for value in sample]
    inflation *= len(values) / len(samples)
    share = p / 100 if is_upper else 1 - p / 100
    p_kept, p_broken = p_values(sum(map(holds, values)), len(values), share, inflation=inflation)
    low, high = one_sided_bounds(values, p, tail=TAIL, inflation=inflation)
    estimate = percentile(values, p)
    assert estimate is not None
    needed = _needed(share, inflation * len(samples) / len(values))
    return Proof(estimate, low, high, p_kept, p_broken, len(samples), needed)


def of_mean(
    samples: Sequence[Sequence[float]], bound: float, holds: Callable[[float], bool], *, is_upper: bool
) -> Proof:
    """Return what values, by request, say of their mean: Student's t over requests, by their sums and counts."""
    from scipy import stats

    total, n = sum(map(len, samples)), len(samples)
    mean = math.fsum(value for sample in samples for value in sample) / total
    if not math.isfinite(mean):
        return Proof(mean, None, None, 1.0, 0.0, n, 2)
    if n < 2:
        return Proof(mean, None, None, 1.0, 1.0, n, 2)
    # The ratio of two sums (Cochran, Sampling Techniques, 3rd ed., 2.11); with a value each it is the mean's own error.
    squares = math.fsum((math.fsum(sample) - mean * len(sample)) ** 2 for sample in samples)
    error = math.sqrt(squares * n / (n - 1)) / total
    if error <= 1e-12 * abs(mean):
        # Without any spread, the side that the mean is on decides.
        return Proof(mean, mean, mean, *((0.0, 1.0) if holds(mean) else (1.0, 0.0)), n, 2)
    reach = float(stats.t.isf(TAIL, n - 1)) * error
    statistic = (mean - bound) / error
    above, below = float(stats.t.sf(statistic, n - 1)), float(stats.t.cdf(statistic, n - 1))
    p_kept, p_broken = (below, above) if is_upper else (above, below)
    return Proof(mean, mean - reach, mean + reach, p_kept, p_broken, n, 2)


def of_extreme(samples: Sequence[Sequence[float]], name: str, holds: Callable[[float], bool]) -> Proof:
    """Return what the smallest (`min`) or largest (`max`) value is: a fact about these requests, no others."""
    values = [value for sample in samples for value in sample]
    extreme = min(values) if name == "min" else max(values)
    p_kept, p_broken = (0.0, 1.0) if holds(extreme) else (1.0, 0.0)
    return Proof(extreme, extreme, extreme, p_kept, p_broken, len(samples), 1)


def _needed(share: float, inflation: float) -> int:
    """Return the smallest n of which all, if they keep to the bound, prove that `share` of all do."""
    return max(1, math.ceil(math.ceil(math.log(TAIL) / math.log(share) - 1e-9) * inflation - 1e-9))
