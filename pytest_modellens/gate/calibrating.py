"""From runs of an unchanged server to a calibration of the machine."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from pytest_modellens.errors import ConfigError
from pytest_modellens.gate.calibrations import MachineCalibration, StoredSpread, machine_of
from pytest_modellens.gate.memory import Series
from pytest_modellens.gate.session import VALUES, differences
from pytest_modellens.gate.spread import estimate_spread
from pytest_modellens.gate.stored import MIN_VALUES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_modellens.gate.session import Session

__all__ = ["LEAST_SESSIONS", "calibrate"]

LEAST_SESSIONS = 3
"""Sessions without which nothing can be said of how much they differ."""
_METRICS = VALUES[1:]


def calibrate(sessions: Sequence[Sequence[Session]], *, now: datetime) -> MachineCalibration:
    """Return how much the numbers of an unchanged server vary.

    Args:
        sessions: by session the runs in it, one for each start of the server.
        now: when the calibration is made.

    Raises:
        ConfigError: too few sessions, runs that do not measure the same, or too few requests.
    """
    runs = [run for session in sessions for run in session]
    if len(sessions) < LEAST_SESSIONS:
        raise ConfigError(
            f"calibrate: {len(sessions)} session{'s' * (len(sessions) != 1)} cannot say how much sessions differ "
            f"({LEAST_SESSIONS} are needed, 5 or more are better)"
        )
    if len({run.name for run in runs}) < len(runs):
        raise ConfigError("calibrate: a run is named twice (each is one start of the server)")
    differing = differences(runs[1:], runs[0], may_differ=(), where=("in one run", "in another"))
    if differing:
        told = "; ".join(f"{key + ': ' if key else ''}{text}" for key, texts in differing.items() for text in texts)
        raise ConfigError(f"calibrate: the runs are not of one unchanged server ({told})")
    common = [key for key in runs[0].cases if all(key in run.cases for run in runs)]
    metrics = {}
    for metric in _METRICS:
        measured = _series(sessions, metric, common)
        if measured:
            metrics[metric] = msgspec.convert(estimate_spread(measured), type=StoredSpread, from_attributes=True)
    if not metrics:
        raise ConfigError(
            f"calibrate: no case was measured {MIN_VALUES} times in every run (more rounds, or a suite that succeeds)"
        )
    return MachineCalibration(
        made_at=now.isoformat(timespec="seconds"),
        machine=machine_of(runs[0].machine),
        sessions=[[run.name for run in session] for session in sessions],
        span_h=_span_h(runs),
        requests=sum(len(run.rows) for run in runs),
        metrics=metrics,
    )


def _series(sessions: Sequence[Sequence[Session]], metric: str, cases: Sequence[str]) -> list[list[Series]]:
    """Return the log values of a metric by session and start, of those cases of which each start has enough."""
    rows = [
        [[row for row in run.rows if _is_usable(row.get(metric))] for run in session] for session in sessions
    ]  # fmt: skip
    counts = [Counter(row["case"] for row in run) for session in rows for run in session]
    kept = [case for case in cases if all(count[case] >= MIN_VALUES for count in counts)]
    place = {case: at for at, case in enumerate(kept)}
    return [[_start([row for row in run if row["case"] in place], place, metric) for run in s] for s in rows if kept]


def _start(rows: Sequence[dict[str, Any]], place: dict[str, int], metric: str) -> Series:
    return Series(np.array([place[row["case"]] for row in rows]), np.log([float(row[metric]) for row in rows]))


def _is_usable(value: object) -> bool:
    return isinstance(value, (int, float)) and 0 < value < float("inf")


def _span_h(runs: Sequence[Session]) -> float | None:
    try:
        made = [datetime.fromisoformat(str(run.made_at)).timestamp() for run in runs]
    except ValueError:
        return None
    return round((max(made) - min(made)) / 3600, 2)
