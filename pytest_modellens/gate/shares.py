"""Goodput: how a share of requests changed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from pytest_modellens.gate.effects import Comparison, Effects
from pytest_modellens.gate.paired import start_variance
from pytest_modellens.gate.stored import extent, rows_by_session, session_effects, session_variance
from pytest_modellens.stats.percentile import wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_modellens.gate.calibration import Calibration
    from pytest_modellens.gate.frames import Table
    from pytest_modellens.gate.paired import Blocks

    Array = NDArray[np.float64]

__all__ = ["compare_share_sessions", "compare_shares"]

REQUEST_SD = 0.05
"""Noise of one request, in log values: by its size a slower session or start pushes requests over their objectives."""
_Z2 = float(stats.norm.isf(0.05)) ** 2


def compare_shares(blocks: Blocks, *, calibration: Calibration, levels: tuple[float, float]) -> Comparison:
    """Return how a share changed, by Newcombe's interval of a difference (1998, Statistics in Medicine 17, 873-890,
    method 10): Wilson's intervals of both arms, widened for requests that depend on each other.
    """
    n = np.array([count.sum(axis=0) for count in blocks.count])
    met = np.array([np.nansum(mean * count, axis=0) for mean, count in zip(blocks.mean, blocks.count, strict=True)])
    difference = blocks.difference
    known = start_variance(blocks.start, calibration)
    shares = met / n
    overall = _effect(met.sum(axis=1), n.sum(axis=1), np.nanmean(difference, axis=1), known, calibration, levels)
    cases = [
        _effect(met[:, at], n[:, at], column[~np.isnan(column)], known, calibration, levels)
        for at, column in enumerate(difference.T)
    ]
    change = shares[1] - shares[0]
    return Comparison(
        _stacked(change.mean(keepdims=True), [overall]),
        _stacked(change, cases),
        n=difference.shape[0],
        falling=1 - overall[2],
    )


_Errors = tuple[float, float, float]


def _effect(
    met: Array, n: Array, by_block: Array, known: float, calibration: Calibration, levels: tuple[float, float]
) -> _Errors:
    """Return the standard errors below and above, and the share of the variance that comes from server starts."""
    middle = (met + _Z2 / 2) / (n + _Z2)
    binomial = float((middle * (1 - middle) / n).sum())
    observed = float(np.var(by_block, ddof=1)) / by_block.size
    # Blocks that differ more than requests that are independent would: something moves whole blocks.
    inflation = calibration.share_inflation * max(1.0, observed / binomial)
    starts = known * _sensitivity(float(met.sum() / n.sum()), float(n.sum())) ** 2
    regression, passing = levels
    old, new = zip(met.round().astype(int), n.round().astype(int), strict=True)
    below = math.hypot(_reach(new, passing, upper=False), _reach(old, passing, upper=True))
    above = math.hypot(_reach(new, regression, upper=True), _reach(old, regression, upper=False))
    errors = [math.sqrt(reach**2 * inflation + starts) for reach in (below, above)]
    return errors[0], errors[1], starts / errors[0] ** 2


def _reach(counts: tuple[int, int], level: float, *, upper: bool) -> float:
    """Return how far Wilson's interval reaches to one side of the share, in standard errors at that level."""
    interval = wilson(int(counts[0]), int(counts[1]), confidence=1 - 2 * level)
    assert interval is not None
    share = counts[0] / counts[1]
    return (interval.high - share if upper else share - interval.low) / float(stats.norm.isf(level))


def _sensitivity(share: float, n: float) -> float:
    """Return by how much the share moves when all values move by a log unit, were the noise of requests normal."""
    middle = (share * n + _Z2 / 2) / (n + _Z2)
    return float(stats.norm.pdf(stats.norm.ppf(middle))) / REQUEST_SD


def _stacked(change: Array, errors: list[_Errors]) -> Effects:
    below, above, _ = np.array(errors).T
    return Effects(change, below, above, np.full(change.shape, np.inf))


def compare_share_sessions(table: Table, values: Array, *, calibration: Calibration) -> Comparison:
    """Return how a share changed, by t over the sessions' shares."""
    rows, arm = rows_by_session(table, values)
    share = np.array([[chunk.mean() for chunk in row] for row in rows])
    n = np.array([[chunk.size for chunk in row] for row in rows], dtype=float)
    prior = _prior(share.mean(keepdims=True)[0], n.sum(axis=1).mean(keepdims=True), calibration)
    overall = session_effects(share.mean(axis=1, keepdims=True), arm, prior)
    cases = session_effects(share, arm, _prior(share.mean(axis=0), n.mean(axis=0), calibration))
    return Comparison(overall, cases, *extent(arm))


def _prior(share: Array, n: Array, calibration: Calibration) -> Array:
    """Return the variance of a session's share by the noise of requests and by what a session is known to add."""
    middle = (share * n + _Z2 / 2) / (n + _Z2)
    moved = session_variance(calibration) * np.array([_sensitivity(*one) for one in zip(share, n, strict=True)]) ** 2
    return middle * (1 - middle) / n * calibration.share_inflation + moved
