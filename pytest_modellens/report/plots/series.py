"""What plots are made of: named numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_modellens.report.lines import squeezed
from pytest_modellens.stats.percentile import median_interval, percentile
from pytest_modellens.text import printable

if TYPE_CHECKING:
    from array import array
    from collections.abc import Sequence

    from pytest_modellens.report.summary import Distribution
    from pytest_modellens.stats.percentile import Interval

__all__ = ["Estimate", "Series", "estimate_of", "label", "median_of", "thinned", "with_unit"]


@dataclass(frozen=True, slots=True)
class Series:
    """Values of one thing, in any order."""

    label: str
    values: Sequence[float] | array[float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its interval; `low` and `high` are None where the sample supports none."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    series: int = 0
    """Which of the plot's series it belongs to."""


def estimate_of(label: str, distribution: Distribution, series: int = 0) -> Estimate | None:
    """Return the median of `distribution` with its interval; None when it has no value."""
    if distribution.p50 is None:
        return None
    return _estimate(label, distribution.p50, distribution.interval, series)


def median_of(series: Series, number: int = 0) -> Estimate | None:
    """Return the median of the values with its 95 % interval; None without values."""
    value = percentile(series.values, 50)
    return None if value is None else _estimate(series.label, value, median_interval(series.values), number)


def _estimate(label: str, value: float, interval: Interval | None, series: int) -> Estimate:
    return Estimate(label, value, interval.low if interval else None, interval.high if interval else None, series)


def label(text: str, limit: int = 32) -> str:
    """Return `text` from elsewhere as a plot may show it: on one line, no wider than `limit` letters."""
    return squeezed(printable(text, limit=10 * limit), limit)


def with_unit(what: str, unit: str) -> str:
    """Return what an axis shows; `unit` is empty where `what` says it."""
    return f"{what}, {unit}" if unit else what


def thinned(values: Sequence[float] | array[float], most: int) -> list[float]:
    """Return the values in order, or `most` of them at even ranks, the smallest and largest among them."""
    import numpy as np

    found = np.asarray(values, dtype=float)
    if len(found) > most:
        ranks = [round(k * (len(found) - 1) / (most - 1)) for k in range(most)]
        return [*map(float, np.partition(found, ranks)[ranks])]
    return [*map(float, np.sort(found))]
