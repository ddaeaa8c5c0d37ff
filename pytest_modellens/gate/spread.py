"""How much sessions and server starts of an unchanged server differ: variance components of nested measurements."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from pytest_modellens.gate.calibration import Calibration
from pytest_modellens.gate.effects import robust
from pytest_modellens.gate.memory import HIGHEST, correlation
from pytest_modellens.gate.stored import PRIOR_DF

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pytest_modellens.gate.memory import Series

    Array = NDArray[np.float64]

__all__ = ["Estimate", "Spread", "estimate_spread"]

_TAIL = 0.025


@dataclass(frozen=True, slots=True)
class Estimate:
    """A standard deviation of log values, or a correlation."""

    used: float
    """What the gate reckons with: the estimate, drawn towards the default as if that were two sessions' knowledge."""
    seen: float | None
    """The estimate itself; None where the measurements say nothing of it, and the default is used."""
    low: float | None = None
    high: float | None = None
    """Ends of its 95 % interval."""


@dataclass(frozen=True, slots=True)
class Spread:
    """What one metric's numbers do by themselves."""

    session_sd: Estimate
    start_sd: Estimate
    rho: Estimate


def estimate_spread(sessions: Sequence[Sequence[Series]]) -> Spread:
    """Return how much sessions and server starts differ, and requests depend on each other.

    Sums of squares between sessions, and between the starts of each, are held against what they would be (Searle,
    Casella & McCulloch 1992, Variance Components, 3.6); what requests add to them is known from the requests.

    Args:
        sessions: by session the server starts in it, each the log values of all cases that all of them have, at least
            two values of each case.
    """
    starts = [start for session in sessions for start in session]
    rho = correlation(starts)
    n = sum(start.values.size for start in starts)
    error = float(stats.norm.isf(_TAIL)) * math.sqrt((1 - rho**2) / n)
    memory = Estimate(rho, rho, max(0.0, rho - error), min(HIGHEST, rho + error))
    inflation = Calibration(rho=rho).inflation
    summaries = [[_summary(start, inflation) for start in session] for session in sessions]
    noise = float(np.mean([variance for session in summaries for _, variance in session]))
    means = [np.array([mean for mean, _ in session]) for session in summaries]
    default = Calibration()
    df = len(starts) - len(sessions)
    if df:
        within = float(sum(((mean - mean.mean()) ** 2).sum() for mean in means)) / df
        start_sd = _component(within, df, noise, 1.0, default.start_sd)
    else:
        within = noise + default.start_sd**2
        start_sd = Estimate(default.start_sd, None)
    count = np.array([mean.size for mean in means], dtype=float)
    middle = np.concatenate(means).mean()
    between = float(sum(mean.size * (mean.mean() - middle) ** 2 for mean in means)) / (len(sessions) - 1)
    starts_each = float(count.sum() - (count**2).sum() / count.sum()) / (len(sessions) - 1)
    session_sd = _component(between, len(sessions) - 1, within, starts_each, default.session_sd)
    return Spread(session_sd, start_sd, memory)


def _summary(start: Series, inflation: float) -> tuple[float, float]:
    """Return the mean over cases of the trimmed means, and the variance that requests give it, as the gate does."""
    found = robust([start.values[start.case == case] for case in np.unique(start.case)])
    variance = sum(one.variance for one in found) * inflation / len(found) ** 2
    return float(np.mean([one.mean for one in found])), variance


def _component(square: float, df: int, below: float, count: float, default: float) -> Estimate:
    """Return the standard deviation of a level, of whose means the mean square is `square`.

    Args:
        square: with `df` degrees of freedom.
        df: as said.
        below: the part of the mean square that the levels below bring.
        count: how often the level's variance is in the mean square.
        default: what is taken when nothing is known.
    """

    def deviation(of: float) -> float:
        return math.sqrt(max(0.0, (of - below) / count))

    seen = deviation(square)
    low, high = (deviation(square * df / float(stats.chi2.isf(tail, df))) for tail in (_TAIL, 1 - _TAIL))
    used = math.sqrt((PRIOR_DF * default**2 + df * seen**2) / (PRIOR_DF + df))
    return Estimate(used, seen, low, high)
