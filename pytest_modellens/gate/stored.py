"""Against stored sessions: the session is the unit, and more requests of one session say nothing about the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_modellens.gate.effects import Comparison, Effects, robust
from pytest_modellens.gate.frames import IncomparableError, some
from pytest_modellens.gate.verdict import ARMS, MIN_SESSIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_modellens.gate.calibration import Calibration
    from pytest_modellens.gate.frames import Table

    Array = NDArray[np.float64]

__all__ = [
    "MIN_VALUES",
    "PRIOR_DF",
    "compare_sessions",
    "extent",
    "rows_by_session",
    "session_effects",
    "session_variance",
    "too_few_sessions",
]

MIN_VALUES = 3
"""Values of a case in a session without which it has no spread."""
PRIOR_DF = 2.0
"""So many sessions' worth of knowledge is the calibrated spread between sessions."""


def rows_by_session(table: Table, values: Array) -> tuple[list[list[Array]], NDArray[np.int64]]:
    """Return the values that are not NaN by session and case, and the arm of each session.

    Raises:
        IncomparableError: a session lacks a case or has too few values of it.
    """
    session, _ = table.codes("job")
    # A job of the candidate may bear the number of one of the baseline.
    keys, session = np.unique(session * 2 + table.arm, return_inverse=True)
    usable = ~np.isnan(values)
    shape = (keys.size, len(table.cases))
    place = np.ravel_multi_index((session, table.case), shape)[usable]
    order = np.argsort(place, kind="stable")
    counts = np.bincount(place, minlength=shape[0] * shape[1])
    _check(counts.reshape(shape), keys % 2, table)
    chunks = np.split(values[usable][order], np.cumsum(counts)[:-1])
    return [chunks[row * shape[1] : (row + 1) * shape[1]] for row in range(shape[0])], keys % 2


def _check(counts: NDArray[np.int64], arm: NDArray[np.int64], table: Table) -> None:
    problems = []
    for number, name in enumerate(ARMS):
        fewest = counts[arm == number].min(axis=0)
        if (fewest < MIN_VALUES).any():
            thin = [case for case, count in zip(table.cases, fewest, strict=True) if count < MIN_VALUES]
            problems.append(f"a session of the {name} has fewer than {MIN_VALUES} usable requests of {some(thin)}")
    if problems:
        raise IncomparableError(*problems)


def compare_sessions(table: Table, values: Array, *, sign: int, calibration: Calibration) -> Comparison:
    """Return how the candidate changed in what is typical: trimmed means by session and case, then t over sessions."""
    rows, arm = rows_by_session(table, values)
    found = robust([chunk for row in rows for chunk in row])
    mean = sign * np.array([cell.mean for cell in found]).reshape(len(rows), -1)
    noise = np.array([cell.variance for cell in found]).reshape(mean.shape).mean(axis=0) * calibration.inflation
    prior = session_variance(calibration)
    overall = session_effects(mean.mean(axis=1, keepdims=True), arm, prior + noise.mean(keepdims=True) / noise.size)
    return Comparison(overall, session_effects(mean, arm, prior + noise), *extent(arm))


def session_variance(calibration: Calibration) -> float:
    """Return the variance of log values that a session and its server start are known to add."""
    return calibration.session_sd**2 + calibration.start_sd**2


def extent(arm: NDArray[np.int64]) -> tuple[int, float]:
    """Return the candidate's sessions, and the share of the variance that more of them would make smaller."""
    old, new = (int((arm == number).sum()) for number in (0, 1))
    return new, (1 / new) / (1 / new + 1 / old)


def too_few_sessions(table: Table) -> str | None:
    """Return why nothing can be decided against a baseline of few sessions; None when there are enough."""
    count = np.unique(table.keys["job"][table.arm == 0]).size
    if count >= MIN_SESSIONS:
        return None
    what = "is a single session" if count == 1 else f"has {count} sessions"
    return f"the baseline {what}, and nothing is decided with fewer than {MIN_SESSIONS}: {MIN_SESSIONS - count} missing"


def session_effects(value: Array, arm: NDArray[np.int64], prior: Array) -> Effects:
    """Return the changes of each column of `value` [session, …], whose spread is also known as the variance `prior`."""
    old, new = value[arm == 0], value[arm == 1]
    squares = sum(((part - part.mean(axis=0)) ** 2).sum(axis=0) for part in (old, new))
    df = PRIOR_DF + len(old) + len(new) - 2
    variance = (PRIOR_DF * prior + squares) / df
    difference = new.mean(axis=0) - old.mean(axis=0)
    return Effects.symmetric(
        difference, variance * (1 / len(old) + 1 / len(new)), np.full(difference.shape, df, dtype=float)
    )
