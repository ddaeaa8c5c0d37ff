"""How sure a verdict must be: one error rate over many tests, and over several looks at the same data."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize, stats

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["holm", "nominal_level"]


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return the p-values adjusted for their number: those at or below a level err together at that level.

    Holm (1979), "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 65-70.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


@lru_cache(maxsize=256)
def nominal_level(level: float, looks: int) -> float:
    """Return the one-sided level of each of several looks whose errors together are `level`.

    The boundary is Pocock's (1977, Biometrika 64, 191-199): the same at every look. It is computed for looks that each
    double the data, where neighbours are correlated by √½; looks closer together err less.
    """
    if looks == 1:
        return level
    return float(stats.norm.sf(optimize.brentq(lambda z: _crossed(z, looks) - level, 0.0, 9.0, xtol=1e-10)))


def _crossed(boundary: float, looks: int) -> float:
    """Return the probability that any of `looks` standard normal values exceeds `boundary`.

    Armitage, McPherson & Rowe (1969): the density of values that stayed below is carried from look to look.
    """
    points, weights = np.polynomial.legendre.leggauss(160)
    half = (boundary + 9.0) / 2
    z, weights = half * points + half - 9.0, half * weights
    kernel = stats.norm.pdf(z[:, None], loc=np.sqrt(0.5) * z[None, :], scale=np.sqrt(0.5)) * weights
    density = stats.norm.pdf(z)
    for _ in range(looks - 1):
        density = kernel @ density
    return float(1.0 - weights @ density)
