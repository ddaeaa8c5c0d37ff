"""Estimated changes with their uncertainty, on the scale of the tests, where positive is better."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Comparison", "Effects", "Robust", "kept", "robust", "yuen_variance"]

TRIMMED = 0.1
"""Share of values left out at each end; from six values on at least one, since one stall spoils a mean of six."""
_FEW = 6


@dataclass(frozen=True, slots=True)
class Effects:
    """Changes, each with standard errors towards worse and towards better, and degrees of freedom."""

    estimate: Array
    below: Array
    above: Array
    df: Array

    @classmethod
    def symmetric(cls, estimate: Array, variance: Array, df: Array) -> Effects:
        """Return effects that are as uncertain to both sides."""
        se = np.sqrt(variance)
        return cls(estimate, se, se, df)

    def at(self, places: NDArray[np.bool_]) -> Effects:
        """Return these effects where `places` is true, and NaN elsewhere."""
        wide = np.full((4, places.size), np.nan)
        wide[:, places] = self.estimate, self.below, self.above, self.df
        return Effects(*wide)

    def p_not_worse(self) -> Array:
        """Return the p-values of "no slowdown"."""
        return self._cdf(self.estimate / _positive(self.above))

    def p_beyond(self, distance: float) -> Array:
        """Return the p-values of "worse by `distance` or more"."""
        return self._cdf(-(self.estimate + distance) / _positive(self.below))

    def p_not_beyond(self, distance: float) -> Array:
        """Return the p-values of "better by `distance` at most"."""
        return self._cdf(-(self.estimate - distance) / _positive(self.below))

    def interval(self, tail: float) -> tuple[Array, Array]:
        """Return bounds that the change is beyond with probability `tail` each."""
        quantile = stats.t.isf(tail, self.df)
        return self.estimate - quantile * self.below, self.estimate + quantile * self.above

    def _cdf(self, statistic: Array) -> Array:
        return np.asarray(stats.t.cdf(statistic, self.df), dtype=float)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of two arms."""

    overall: Effects
    """A single effect."""
    cases: Effects
    """One effect a case, in the order of the cases compared; NaN where a case alone cannot be judged."""
    n: int
    """Blocks, or sessions of the candidate."""
    falling: float
    """Share of the variance that more of these would make smaller."""

    def needed(
        self, distance: float, *, pass_level: float, regression_level: float, falling: float | None = None
    ) -> int | None:
        """Return how many more blocks or sessions would decide if the estimate stayed; None when no number would.

        `falling` stands in for the share of the variance that they make smaller.
        """
        falling = self.falling if falling is None else falling
        estimate, df = float(self.overall.estimate[0]), self.overall.df[0]
        if estimate > -distance:
            margin, level, se = estimate + distance, pass_level, self.overall.below[0]
        else:
            margin, level, se = -estimate, regression_level, self.overall.above[0]
        share = (margin / float(stats.t.isf(level, df)) / se) ** 2 - (1 - falling) if se > 0 else 0.0
        if not share > 0 or not math.isfinite(share):
            return None
        more = math.ceil(self.n * falling / share) - self.n
        return max(1, more) if more <= MANY else None


MANY = 10_000
"""More than this is no advice: the change lies at the limit itself."""


@dataclass(frozen=True, slots=True)
class Robust:
    """A trimmed mean and what its uncertainty is computed from."""

    mean: float
    winsorised: Array
    """The values, of which the trimmed ones are replaced by the outermost that were kept."""
    left: int
    """How many were kept."""

    @property
    def df(self) -> float:
        """Degrees of freedom of `variance`."""
        return self.left - 1.0

    @property
    def variance(self) -> float:
        """Yuen's variance of the mean (1974, Biometrika 61, 165-170)."""
        return yuen_variance(self.winsorised, self.left)


def robust(samples: Sequence[Array]) -> list[Robust]:
    """Return the 10 % trimmed means of samples of at least two values each."""
    found: dict[int, Robust] = {}
    for size in {sample.size for sample in samples}:
        # Samples of one size together: one call of scipy costs as much as hundreds of means.
        at = [number for number, sample in enumerate(samples) if sample.size == size]
        values = np.array([samples[number] for number in at])
        left = kept(size)
        # Scipy rounds down: half a value more makes it the number that is meant.
        share = ((size - left) / 2 + 0.5) / size
        means = stats.trim_mean(values, share, axis=1) if left < size else values.mean(axis=1)
        if left < size:
            values = np.asarray(stats.mstats.winsorize(values, limits=(share, share), axis=1))
        found |= {number: Robust(float(mean), row, left) for number, mean, row in zip(at, means, values, strict=True)}
    return [found[number] for number in range(len(samples))]


def kept(size: int) -> int:
    """Return how many of `size` values are left after trimming."""
    return size - 2 * max(int(TRIMMED * size), int(size >= _FEW))


def yuen_variance(winsorised: Array, left: int) -> float:
    """Return the variance of a trimmed mean: the winsorised values' sum of squares by h (h − 1), h = `left`."""
    return float(np.var(winsorised)) * winsorised.size / (left * (left - 1))


def _positive(se: Array) -> Array:
    # Without any spread, the sign of a difference alone decides.
    return np.maximum(se, 1e-12)
