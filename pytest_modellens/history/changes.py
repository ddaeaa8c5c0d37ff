"""Where a series became another one: change points, and the commits between which they lie."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_modellens.errors import MissingExtraError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_modellens.gate.calibration import Calibration
    from pytest_modellens.history.series import Point, Series

    Array = NDArray[np.float64]

__all__ = ["CONFIRMED_BY", "LEAST_RUNS", "Change", "changes_of"]

LEAST_RUNS = 8
"""Runs of a series without which changes are not looked for."""
CONFIRMED_BY = 3
"""Runs at each level without which it is none: a single bad night is no change."""
_PENALTY = 12.0
"""In variances of a run: see docs/history.md for how often series without a change show one then."""


@dataclass(frozen=True, slots=True)
class Change:
    """A series is at another level from one run on."""

    at: int
    """Place of the first run at the new level."""
    before: Point
    """The last run at the old one."""
    after: Point
    ratio: float
    """New level by old level."""

    @property
    def commits(self) -> str | None:
        """The range that git log takes; None where commits are not known, or both runs are of one."""
        if self.before.commit is None or self.after.commit is None or self.before.commit == self.after.commit:
            return None
        return f"{self.before.commit[:9]}..{self.after.commit[:9]}"


def changes_of(series: Series, calibration: Calibration) -> list[Change]:
    """Return where the series changed its level; none of fewer than `LEAST_RUNS` runs.

    PELT (Killick, Fearnhead & Eckley 2012, JASA 107, 1590-1598) on the runs' log levels, squared error. A run's
    variance is what is seen between neighbours (von Neumann 1941), or what is known of the machine where that is more.

    Raises:
        MissingExtraError: ruptures is not installed.
    """
    points = series.points
    if len(points) < LEAST_RUNS:
        return []
    try:
        from ruptures import Pelt
    except ImportError as exc:
        raise MissingExtraError("change points need ruptures (pip install 'pytest-modellens[history]')") from exc
    levels = np.array([point.level for point in points])
    known = calibration.session_sd**2 + calibration.start_sd**2 + float(np.mean([point.noise for point in points]))
    variance = max(known, float(np.mean(np.diff(levels) ** 2)) / 2)
    found = Pelt(model="l2", min_size=CONFIRMED_BY, jump=1).fit(levels[:, None]).predict(pen=_PENALTY * variance)
    bounds = _confirmed(levels, [0, *found])
    return [
        Change(at, points[at - 1], points[at], _ratio(levels[begin:at], levels[at:end]))
        for begin, at, end in zip(bounds, bounds[1:], bounds[2:], strict=False)
    ]


def _confirmed(levels: Array, bounds: list[int]) -> list[int]:
    """Return the bounds of segments without those that single runs have made: each level needs several of its own."""
    for at, (begin, middle, end) in enumerate(zip(bounds, bounds[1:], bounds[2:], strict=False), start=1):
        old, new = levels[begin:middle], levels[middle:end]
        for part, other in ((old, new), (new, old)):
            nearer = np.abs(part - np.median(part)) < np.abs(part - np.median(other))
            if nearer.sum() < CONFIRMED_BY:
                return _confirmed(levels, bounds[:at] + bounds[at + 1 :])
    return bounds


def _ratio(old: Array, new: Array) -> float:
    return math.exp(float(np.mean(new)) - float(np.mean(old)))
