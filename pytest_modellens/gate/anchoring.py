"""Baselines after a change that was meant: sessions of before make room for runs of after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_modellens.errors import StorageError
from pytest_modellens.gate.baseline import KEPT, add_session, check_baseline, read_baseline, remove_sessions
from pytest_modellens.gate.recorded import recorded_session
from pytest_modellens.gate.session import differences
from pytest_modellens.gate.verdict import MIN_SESSIONS
from pytest_modellens.storage import list_runs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_modellens.gate.session import Session

__all__ = ["reanchor"]


def reanchor(folder: Path, results: Path, *, since: str, may_differ: Sequence[str]) -> tuple[list[str], list[str]]:
    """Have a baseline begin with the run `since`; returns the names of the sessions removed and of those added.

    Added are the newest runs from then on that could be baselines, and measured all cases of it. Nothing is changed
    unless the baseline then has enough sessions to be judged against.

    Raises:
        StorageError: there is no such baseline, there are too few such runs, or a file cannot be read or written.
    """
    check_baseline(folder)
    there = read_baseline(folder).sessions
    kept = [session for session in there if session.name >= since]
    old = [session.name for session in there if session.name < since]
    room = KEPT - len(kept)
    added, unfit = _runs_since(results, since, there, may_differ=may_differ)
    added = added[-room:] if room else []
    count = len(kept) + len(added)
    if count < MIN_SESSIONS:
        failed = f", {unfit} more failed or do not go with it" if unfit else ""
        raise StorageError(
            f"{folder}: {count} session{'s' * (count != 1)} since {since}{failed}; {MIN_SESSIONS} are needed "
            "(run the suites again, without --modellens-gate while they are slower)"
        )
    for number, session in enumerate(added):
        others = [*kept, *added[:number]]
        if differing := differences(others, session, may_differ=may_differ):
            told = "; ".join(text for texts in differing.values() for text in texts)
            raise StorageError(f"{folder}: {session.name} does not go with the others since {since} ({told})")
    remove_sessions(folder, old)
    for session in added:
        add_session(folder, session, may_differ=may_differ)
    return old, [session.name for session in added]


def _runs_since(
    results: Path, since: str, there: Sequence[Session], *, may_differ: Sequence[str]
) -> tuple[list[Session], int]:
    """Return the runs that may be sessions, oldest first, and how many may not."""
    cases = {case for session in there for case in session.cases}
    names = {session.name for session in there}
    found, unfit = [], 0
    for run in reversed(list_runs(results)):
        if run.name < since or run.name in names:
            continue
        session, wrong = recorded_session(run.folder)
        if session.name < since or session.name in names:
            continue  # the same measurements, recomputed
        if not cases & session.cases.keys():
            continue  # a run of something else
        if wrong or not cases <= session.cases.keys() or differences(there[-1:], session, may_differ=may_differ):
            unfit += 1
            continue
        found.append(session)
        names.add(session.name)
    return found, unfit
