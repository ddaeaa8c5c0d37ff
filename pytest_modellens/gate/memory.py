"""How much a request has of the one before it: the autocorrelation of noise of which means were taken."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import optimize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Series", "correlation"]

HIGHEST = 0.95
_LONGEST = 400
"""Requests whose correlations are worked out together; a longer series is cut."""
_STALLED_FROM = 4.0
"""Standard deviations from the median; one such request would outweigh all the others."""


class Series(NamedTuple):
    """The requests of one server start, in the order of their sending."""

    case: NDArray[np.int64]
    values: Array


def correlation(series: Sequence[Series]) -> float:
    """Return the correlation of neighbours, from 0 to `HIGHEST`, of noise as of an AR(1) process.

    Residuals around the means of their cases are correlated less than the noise itself (Marriott & Pope 1954,
    Biometrika 41, 390-402): the estimate is the process whose residuals would have the correlation that is seen.
    """
    parts = [part for one in series for part in _cut(one)]
    if not parts:
        return 0.0
    residuals = [_residuals(part) for part in parts]
    products = np.concatenate([one[:-1] * one[1:] for one in residuals])
    squares = np.concatenate([one**2 for one in residuals])
    if not np.nansum(squares) > 0 or np.isnan(products).all():
        return 0.0
    seen = float(np.nanmean(products) / np.nanmean(squares))
    designs: dict[bytes, tuple[NDArray[np.int64], int]] = {}
    for part in parts:
        case, count = designs.get(part.case.tobytes(), (part.case, 0))
        designs[part.case.tobytes()] = case, count + 1

    def missing(rho: float) -> float:
        moments = np.array([count * _moments(case, rho) for case, count in designs.values()]).sum(axis=0)
        return float(moments[0] / products.size / (moments[1] / squares.size)) - seen

    if missing(0.0) >= 0:
        return 0.0
    return float(optimize.brentq(missing, 0.0, HIGHEST, xtol=1e-4)) if missing(HIGHEST) > 0 else HIGHEST


def _cut(series: Series) -> list[Series]:
    count = math.ceil(series.values.size / _LONGEST)
    pairs = zip(np.array_split(series.case, count), np.array_split(series.values, count), strict=True)
    return [Series(np.unique(case, return_inverse=True)[1], values) for case, values in pairs if values.size > 1]


def _residuals(series: Series) -> Array:
    """Return how far each request is from the mean of its case; NaN for one that stalled."""
    found = np.full(series.values.size, np.nan)
    for case in range(series.case.max() + 1):
        at = np.flatnonzero(series.case == case)
        distance = np.abs(series.values[at] - np.median(series.values[at]))
        kept = at[distance <= _STALLED_FROM * 1.4826 * np.median(distance)]
        found[kept] = series.values[kept] - series.values[kept].mean()
    return found


def _moments(case: NDArray[np.int64], rho: float) -> Array:
    """Return what is to be expected of the residuals' products with their next ones, and of their squares, summed."""
    place = np.arange(case.size)
    noise = np.power(rho, np.abs(place[:, None] - place[None, :]))
    mean = np.equal(np.arange(case.max() + 1)[:, None], case[None, :]) / np.bincount(case)[:, None]
    shared = mean @ noise
    both = shared @ mean.T
    now, after = case[:-1], case[1:]
    products = rho - shared[now, place[1:]] - shared[after, place[:-1]] + both[now, after]
    return np.array([products.sum(), case.size - shared[case, place].sum()])
