"""Recorded runs as series: one for each case and metric, of runs that may be compared with each other."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_modellens.errors import StorageError
from pytest_modellens.gate.calibration import Calibration
from pytest_modellens.gate.effects import robust
from pytest_modellens.gate.recorded import RecordedRun
from pytest_modellens.gate.session import FACTS, SLO, differences
from pytest_modellens.stats.percentile import median_interval, percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from pytest_modellens.gate.session import Session

__all__ = ["Point", "Series", "Source", "read_sources", "series_of"]

LEAST_VALUES = 3
"""Requests of a case without which a run says nothing of it."""
MAY_DIFFER = ("server_version", SLO)
"""What may change from run to run: a history is there to show what it does."""
_MODE = "tokens_per_second_mode"


@dataclass(frozen=True, slots=True)
class Point:
    """One metric of one case in one run."""

    run: str
    commit: str | None
    """Of the repository that the run was called in; None when it was none."""
    is_dirty: bool
    """True when tracked files differed from the commit."""
    server_version: str | None
    n: int
    median: float
    low: float | None
    high: float | None
    """Ends of the median's 95 % interval; None when n does not support it."""
    level: float
    """The 10 % trimmed mean of the log values, as the gate compares it."""
    noise: float
    """The variance that requests give it."""


@dataclass(slots=True)
class Series:
    """One metric of one case, run after run."""

    case: str
    """As verdicts call it: suite, name, place in the matrix, and provider."""
    model: str
    metric: str
    points: list[Point] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=dict)
    apart: tuple[str, ...] = ()
    """In what it differs from the series of the same case and metric before it; empty for the first."""


@dataclass(frozen=True, slots=True)
class Source:
    """A run as its series take it."""

    session: Session
    commit: str | None
    is_dirty: bool


def read_sources(
    folders: Iterable[Path], *, say: Callable[[str], None] = lambda _: None
) -> tuple[list[Source], list[str]]:
    """Return the runs that can be read, in the order in which they were measured, and of each that cannot be why.

    Runs in which something failed are among them: what was measured in them was measured. Of a run and what was
    recomputed of it, which are the same measurements, the last is taken.
    """
    found: dict[str, Source] = {}
    problems = []
    for number, folder in enumerate(folders, start=1):
        say(f"reading run {number}: {folder.name}")
        try:
            run = RecordedRun(folder)
            session = run.session()
        except StorageError as exc:
            problems.append(str(exc))
            continue
        git = _mapping(_mapping(run.meta.get("environment")).get("git"))
        commit = git.get("commit")
        source = Source(session, commit if isinstance(commit, str) else None, git.get("is_dirty") is True)
        found[session.name] = source
    # Within one second the suffixes -2 … -10 follow their length.
    return [found[name] for name in sorted(found, key=lambda name: (name[:16], len(name), name))], problems


def series_of(sources: Sequence[Source], metrics: Sequence[str], is_wanted: Callable[[str, str], bool]) -> list[Series]:
    """Return the series of `metrics`, by case and then metric, each of runs that the gate would compare.

    Args:
        sources: oldest first.
        metrics: fields of a baseline's rows.
        is_wanted: takes a case and its model.
    """
    groups: dict[tuple[str, str], dict[str, Series]] = {}
    first: dict[str, Session] = {}
    for source in sources:
        session = source.session
        for case, facts in session.cases.items():
            if not is_wanted(case, str(facts.get("model"))):
                continue
            rows = [row for row in session.rows if row["case"] == case]
            for metric in metrics:
                point = _point(source, facts, [row.get(metric) for row in rows])
                if point is None:
                    continue
                of_case = groups.setdefault((case, metric), {})
                key = _key(session.machine, facts, metric)
                first.setdefault(f"{case}{key}", session)
                if key not in of_case:
                    before = [first[f"{case}{other}"] for other in of_case][-1:]
                    of_case[key] = Series(
                        case,
                        str(facts.get("model")),
                        metric,
                        machine=session.machine,
                        apart=_apart(before, session, case),
                    )
                of_case[key].points.append(point)
    order = {case: at for at, case in enumerate(dict.fromkeys(case for case, _ in groups))}
    return [one for key in sorted(groups, key=lambda key: order[key[0]]) for one in groups[key].values()]


def _point(source: Source, facts: Mapping[str, Any], values: Iterable[Any]) -> Point | None:
    usable = [float(value) for value in values if isinstance(value, (int, float)) and 0 < value < math.inf]
    if len(usable) < LEAST_VALUES:
        return None
    (typical,) = robust([np.log(usable)])
    interval, middle = median_interval(usable), percentile(usable, 50)
    assert middle is not None
    return Point(
        run=source.session.name,
        commit=source.commit,
        is_dirty=source.is_dirty,
        server_version=facts.get("server_version"),
        n=len(usable),
        median=middle,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        level=typical.mean,
        noise=typical.variance * Calibration().inflation,
    )


def _key(machine: Mapping[str, Any], facts: Mapping[str, Any], metric: str) -> str:
    """Return what must be equal for two runs to be compared, as text."""
    # How a speed was counted concerns speeds alone; it is not known where there was none.
    left_out = {*MAY_DIFFER, *(() if metric == "tokens_per_second" else (_MODE,))}
    known = {**machine, **facts}
    return json.dumps([known.get(fact) for fact in FACTS if fact not in left_out], sort_keys=True)


def _apart(before: Sequence[Session], session: Session, case: str) -> tuple[str, ...]:
    found = differences(before, session, may_differ=MAY_DIFFER, where=("before", "here"))
    return (*found.get("", ()), *found.get(case, ()))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
