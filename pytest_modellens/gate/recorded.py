"""Recorded runs as sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_modellens.gate.session import session_of, unfit
from pytest_modellens.storage import read_run
from pytest_modellens.text import printable

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_modellens.gate.run import RunVerdict
    from pytest_modellens.gate.session import Session
    from pytest_modellens.storage import Run

__all__ = ["candidate_session", "recorded_session", "recorded_sides", "session_in"]

_NEEDED = {"suite", "case", "params", "provider", "round", "ok"}
"""Fields without which a line is no record."""


def session_in(run: Run) -> Session:
    """Return the session of a run, whatever it is fit for."""
    return session_of(run.folder.name, run.meta, _records(run))


def recorded_session(folder: Path) -> tuple[Session, list[str]]:
    """Return the session of a run, and why it is not fit to be held against, a sentence each.

    Raises:
        StorageError: it cannot be read.
    """
    run, records = _read(folder)
    wrong = [] if run.meta.get("exit_status") == 0 else ["the run failed, or was cut off"]
    wrong += [printable(problem) for problem in run.problems]
    return session_of(folder.name, run.meta, records), wrong + unfit(run.meta, records)


def candidate_session(folder: Path) -> Session:
    """Return the session of a run, of two servers side by side that of the candidate.

    Raises:
        StorageError: it cannot be read.
    """
    from pytest_modellens.gate.absolute import of_candidate

    run, records = _read(folder)
    return session_of(folder.name, run.meta, of_candidate(records))


def recorded_sides(folder: Path, **about: Any) -> RunVerdict | None:
    """Return the verdict on a run that measured two servers side by side; None when it did not.

    Args:
        folder: of the run.
        about: limits and all else that `judge_sides` takes, but for the look.

    Raises:
        StorageError: it cannot be read.
    """
    from pytest_modellens.gate.sides import judge_sides

    run, records = _read(folder)
    planned = run.meta.get("side_by_side")
    looks = planned.get("looks") if isinstance(planned, dict) else None
    # Whoever looks at data that was stopped at a look must be as sure as at that look.
    n_looks = len(looks) if isinstance(looks, list) and looks else 1
    return judge_sides(folder.name, run.meta, records, n_looks=n_looks, **about)


def _read(folder: Path) -> tuple[Run, list[dict[str, Any]]]:
    run = read_run(folder)
    return run, _records(run)


def _records(run: Run) -> list[dict[str, Any]]:
    return [record for record in run.records if record.keys() >= _NEEDED]
