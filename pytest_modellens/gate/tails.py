"""Percentiles: how the slow end of a metric changed, apart from what its cases differ by."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from pytest_modellens.gate.effects import Comparison, Effects
from pytest_modellens.gate.frames import IncomparableError
from pytest_modellens.gate.paired import by_start, start_variance
from pytest_modellens.gate.stored import extent, rows_by_session, session_effects, session_variance
from pytest_modellens.gate.verdict import ARMS
from pytest_modellens.stats.percentile import min_n_for_upper_bound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pytest_modellens.gate.calibration import Calibration
    from pytest_modellens.gate.frames import Table
    from pytest_modellens.gate.limits import RelativeLimit
    from pytest_modellens.gate.paired import Blocks

    Array = NDArray[np.float64]

__all__ = ["compare_tail_sessions", "compare_tails"]

_LEVEL = 0.05


def compare_tails(
    table: Table,
    values: Array,
    blocks: Blocks,
    limit: RelativeLimit,
    *,
    calibration: Calibration,
    levels: tuple[float, float],
) -> Comparison:
    """Return how a percentile changed: of all requests, each relative to the median of its case in both arms.

    The interval of the difference puts the order-statistic intervals of both arms together (Zou & Donner 2008,
    Statistics in Medicine 27, 1693-1702), and is widened for requests that depend on each other.
    """
    p = _percentile(limit)
    centred = _centred(table, values)
    usable = ~np.isnan(centred)
    arms = [centred[usable & (table.arm == number)] for number in (0, 1)]
    _check([(f"the {name}", arm.size) for name, arm in zip(ARMS, arms, strict=True)], limit)
    known = _start_variance(blocks, calibration)
    overall = _effect(arms, p, limit.sign, known, calibration, levels)
    cases = []
    for at in range(len(table.cases)):
        both = [centred[usable & (table.arm == number) & (table.case == at)] for number in (0, 1)]
        enough = min(part.size for part in both) >= min_n_for_upper_bound(p)
        cases.append(_effect(both, p, limit.sign, known, calibration, levels) if enough else (np.nan,) * 3)
    n, falling = int(blocks.start.size), 1 - known / overall[1] ** 2
    return Comparison(_stacked([overall]), _stacked(cases), n=n, falling=falling)


def _start_variance(blocks: Blocks, calibration: Calibration) -> float:
    """Return what starts of both servers add to the variance of a change: what is seen of them at the middle of the
    cases' values, requests' noise included, where there are many; else what is assumed.
    """
    assumed = start_variance(blocks.start, calibration)
    seen = by_start(np.nanmean(blocks.difference, axis=1), blocks.start)
    return assumed if seen is None else max(assumed, float(np.var(seen, ddof=1)) / seen.size)


def _percentile(limit: RelativeLimit) -> float:
    assert limit.percentile is not None
    return limit.percentile


def _check(sizes: Sequence[tuple[str, int]], limit: RelativeLimit) -> None:
    needed = min_n_for_upper_bound(_percentile(limit))
    short = [f"{needed - size} are missing in {name}" for name, size in sizes if size < needed]
    if short:
        raise IncomparableError(f"{limit.name}: needs {needed} requests ({', '.join(short)})")


def _centred(table: Table, values: Array) -> Array:
    order = np.argsort(table.case, kind="stable")
    chunks = np.split(values[order], np.cumsum(np.bincount(table.case, minlength=len(table.cases)))[:-1])
    median = np.array([np.nanmedian(chunk) if not np.isnan(chunk).all() else np.nan for chunk in chunks])
    return np.asarray(values - median[table.case])


_Moments = tuple[float, float, float]


def _effect(
    arms: Sequence[Array],
    p: float,
    sign: int,
    known: float,
    calibration: Calibration,
    levels: tuple[float, float],
) -> _Moments:
    """Return the change and its standard errors below and above."""
    regression, passing = levels
    old, new = arms
    change = sign * float(np.quantile(new, p / 100) - np.quantile(old, p / 100))
    # Towards worse is down where higher is better, and up where lower is.
    worse, better = ("low", "high") if sign > 0 else ("high", "low")
    below = math.hypot(_reach(new, p, passing, worse), _reach(old, p, passing, better))
    above = math.hypot(_reach(new, p, regression, better), _reach(old, p, regression, worse))
    errors = [math.sqrt(reach**2 * calibration.share_inflation + known) for reach in (below, above)]
    return change, errors[0], errors[1]


def _reach(values: Array, p: float, level: float, end: str) -> float:
    """Return how far a percentile's interval reaches to one end, in standard errors; inf where n is too small."""
    test = stats.quantile_test(values, p=p / 100, alternative="less" if end == "high" else "greater")
    bound = float(getattr(test.confidence_interval(1 - level), end))
    at = float(np.quantile(values, p / 100))
    reach = (bound - at if end == "high" else at - bound) / float(stats.norm.isf(level))
    return math.inf if math.isnan(reach) else max(reach, 0.0)


def _stacked(moments: Sequence[_Moments]) -> Effects:
    change, below, above = np.array(moments, dtype=float).T
    return Effects(change, below, above, np.full(change.shape, np.inf))


def compare_tail_sessions(table: Table, values: Array, limit: RelativeLimit, *, calibration: Calibration) -> Comparison:
    """Return how a percentile changed, by t over the sessions' percentiles."""
    p = _percentile(limit)
    rows, arm = rows_by_session(table, _centred(table, values))
    pooled = [np.concatenate(row) for row in rows]
    _check(
        [(f"a session of the {ARMS[int(number)]}", part.size) for number, part in zip(arm, pooled, strict=True)], limit
    )
    prior = session_variance(calibration)

    def effects(sessions: Sequence[Array]) -> Effects:
        noise = np.mean([_noise(part, p) for part in sessions], keepdims=True) * calibration.share_inflation
        return session_effects(
            np.array([[limit.sign * np.quantile(part, p / 100)] for part in sessions]), arm, prior + noise
        )

    cases = []
    for column in zip(*rows, strict=True):
        enough = min(part.size for part in column) >= min_n_for_upper_bound(p)
        cases.append(effects(column) if enough else None)
    return Comparison(effects(pooled), _columns(cases), *extent(arm))


def _noise(values: Array, p: float) -> float:
    """Return the variance of a percentile, from the width of its 90 % interval."""
    width = _reach(values, p, _LEVEL, "low") + _reach(values, p, _LEVEL, "high")
    return (width / 2) ** 2


def _columns(effects: Sequence[Effects | None]) -> Effects:
    rows = [
        (np.nan,) * 4 if one is None else (one.estimate[0], one.below[0], one.above[0], one.df[0]) for one in effects
    ]
    return Effects(*np.array(rows, dtype=float).T)
