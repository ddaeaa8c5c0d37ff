"""Side by side: both arms answered the same cases in the same blocks, so that what a session does cancels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pytest_modellens.gate.effects import Comparison, Effects, kept, robust, yuen_variance
from pytest_modellens.gate.frames import IncomparableError, some
from pytest_modellens.gate.verdict import ARMS, MANY_STARTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pytest_modellens.gate.calibration import Calibration
    from pytest_modellens.gate.effects import Robust
    from pytest_modellens.gate.frames import Table

    Array = NDArray[np.float64]

__all__ = ["MIN_BLOCKS", "Blocks", "blocks_of", "by_start", "compare_blocks", "start_variance"]

MIN_BLOCKS = 3
"""Blocks without which there is no spread to judge by."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """Values by block and case."""

    mean: tuple[Array, Array]
    """Per arm, [block, case]: mean over the arm's requests there; NaN without any."""
    count: tuple[Array, Array]
    """Per arm, [block, case]: requests with a value."""
    start: NDArray[np.int64]
    """By block: the number of the server start it ran on."""

    @property
    def difference(self) -> Array:
        """Candidate minus baseline, [block, case]; NaN where an arm has no value."""
        return self.mean[1] - self.mean[0]


def blocks_of(table: Table, values: Array) -> Blocks:
    """Return `values`, one a row of `table`, by block and case.

    Raises:
        IncomparableError: the arms share too few blocks, or a case has too few values in them.
    """
    block, n = table.codes("job", "start", "block")
    start, _ = table.codes("job", "start")
    usable = ~np.isnan(values)
    shape = (2, n, len(table.cases))
    place = np.ravel_multi_index((table.arm, block, table.case), shape)[usable]
    count = np.bincount(place, minlength=np.prod(shape)).reshape(shape).astype(float)
    total = np.bincount(place, weights=values[usable], minlength=np.prod(shape)).reshape(shape)
    with np.errstate(invalid="ignore"):
        mean = total / count
    by_block = np.zeros(n, dtype=np.int64)
    by_block[block] = start
    paired = (count[0] > 0) & (count[1] > 0)
    # A block that broke off stands for a few of the cases only.
    whole = paired.mean(axis=1) >= 0.5
    _check(whole, paired, table)
    kept = np.where(paired, count, 0.0)[:, whole]
    return Blocks((mean[0, whole], mean[1, whole]), (kept[0], kept[1]), by_block[whole])


def _check(whole: NDArray[np.bool_], paired: NDArray[np.bool_], table: Table) -> None:
    n = int(whole.sum())
    if not paired.any():
        raise IncomparableError(f"no case of any block has a value in both the {ARMS[0]} and the {ARMS[1]}")
    if n < MIN_BLOCKS:
        raise IncomparableError(f"{n} blocks have values of both arms for half of the cases ({MIN_BLOCKS} are needed)")
    pairs = paired[whole].sum(axis=0)
    if (pairs < MIN_BLOCKS).any():
        thin = [name for name, count in zip(table.cases, pairs, strict=True) if count < MIN_BLOCKS]
        raise IncomparableError(f"fewer than {MIN_BLOCKS} blocks have values of both arms for {some(thin)}")


def compare_blocks(blocks: Blocks, *, sign: int, calibration: Calibration) -> Comparison:
    """Return how the candidate changed: per case the trimmed mean of the blocks' log ratios, then the mean over cases.

    Trimming before averaging keeps the one stalled request of a block from spoiling what its other cases say; the
    spread is still that of whole blocks, so that whatever moves all cases of a block together counts in full.
    """
    gain = sign * blocks.difference
    there = ~np.isnan(gain)
    found = robust([column[rows] for column, rows in zip(gain.T, there.T, strict=True)])
    rest = np.full(gain.shape, np.nan)
    for at, one in enumerate(found):
        rest[there[:, at], at] = one.winsorised - one.mean
    by_block = np.nanmean(rest, axis=1)
    whole, falling = _with_starts(_overall(found, by_block, calibration), by_block, blocks.start, calibration)
    # Among many cases a few are quiet by chance, and would seem to be sure of what is noise.
    least = float(np.median([one.variance for one in found]))
    cases = [
        _with_starts(
            _Moments(one.mean, max(one.variance, least) * calibration.inflation, one.df),
            one.winsorised,
            blocks.start[rows],
            calibration,
        )[0]
        for one, rows in zip(found, there.T, strict=True)
    ]
    return Comparison(_stacked([whole]), _stacked(cases), n=gain.shape[0], falling=falling)


def _overall(found: Sequence[Robust], by_block: Array, calibration: Calibration) -> _Moments:
    """Return the mean over cases. Its variance is the larger of two: that of whole blocks, which whatever moves all
    their cases makes larger, and the sum of the cases' own, each inflated for what a request has of the one before it.
    """
    mean = float(np.mean([one.mean for one in found]))
    parts = np.array([one.variance for one in found]) * calibration.inflation / len(found) ** 2
    left = kept(by_block.size)
    blocks = yuen_variance(by_block, left)
    if blocks >= parts.sum():
        return _Moments(mean, blocks, left - 1.0)
    df = np.array([one.df for one in found])
    return _Moments(mean, float(parts.sum()), float(parts.sum() ** 2 / (parts**2 / df).sum()))


def start_variance(start: NDArray[np.int64], calibration: Calibration) -> float:
    """Return the variance that is assumed of a difference of log values by the starts of both servers."""
    return 2 * calibration.start_sd**2 / np.unique(start).size


def by_start(values: Array, start: NDArray[np.int64]) -> Array | None:
    """Return the means of blocks' values on each start; None where so few starts do not show how much they differ."""
    _, number, count = np.unique(start, return_inverse=True, return_counts=True)
    return None if count.size < MANY_STARTS else np.bincount(number, weights=values) / count


class _Moments(NamedTuple):
    mean: float
    variance: float
    df: float


def _with_starts(
    found: _Moments, by_block: Array, start: NDArray[np.int64], calibration: Calibration
) -> tuple[_Moments, float]:
    """Return `found` with the variance that server starts add, and the share of it that more blocks make smaller."""
    within = found.variance
    means = by_start(by_block, start)
    if means is None:
        variance = within + start_variance(start, calibration)
        # Satterthwaite: the part that is known has no end of degrees of freedom.
        df = found.df * (variance / within) ** 2 if within > 0 else np.inf
        return _Moments(found.mean, variance, df), within / variance if variance > 0 else 1.0
    between = float(np.var(means, ddof=1)) / means.size
    if between > within:
        return _Moments(found.mean, between, means.size - 1.0), 1.0
    return _Moments(found.mean, within, found.df), 1.0


def _stacked(moments: list[_Moments]) -> Effects:
    mean, variance, df = np.array(moments).T
    return Effects.symmetric(mean, variance, df)
