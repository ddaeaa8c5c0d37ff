"""Recorded runs as sessions. Records are read from the disk one at a time: a run may be larger than memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_modellens.gate.session import Fitness, session_of
from pytest_modellens.storage import iter_requests
from pytest_modellens.storage.stored import StoredRun
from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_modellens.gate.run import RunVerdict
    from pytest_modellens.gate.session import Session

__all__ = ["RecordedRun", "candidate_session", "recorded_session", "recorded_sides"]

_NEEDED = {"suite", "case", "params", "provider", "round", "ok"}
"""Fields without which a line is no record."""


class RecordedRun(StoredRun):
    """A run on disk; to go through it is to read its records anew."""

    def __init__(self, folder: Path) -> None:
        """Read what run.json says.

        Raises:
            StorageError: as `StoredRun`.
        """
        super().__init__(folder)
        self.name = folder.name
        """The run in which it was measured: of a recomputed one, that which it was made of."""
        origin = self.meta.get("recomputed")
        if isinstance(origin, dict) and isinstance(origin.get("from"), str):
            self.name = origin["from"]
            self.meta["started_at"] = origin.get("measured_at")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the records; lines that are none are left out.

        Raises:
            StorageError: a newer version of this plugin wrote them.
        """
        return (record for record in iter_requests(self.folder, self.problems) if record.keys() >= _NEEDED)

    def session(self) -> Session:
        """Return the session of the run, whatever it is fit for.

        Raises:
            StorageError: see above.
        """
        return session_of(self.name, self.meta, self)


def recorded_session(folder: Path) -> tuple[Session, list[str]]:
    """Return the session of a run, and why it is not fit to be held against, a sentence each.

    Raises:
        StorageError: it cannot be read.
    """
    run, fitness = RecordedRun(folder), Fitness()
    session = session_of(run.name, run.meta, fitness.seen(run))
    wrong = [] if run.meta.get("exit_status") == 0 else ["the run failed, or was cut off"]
    wrong += [printable(problem) for problem in run.problems]
    return session, wrong + fitness.wrong(run.meta)


def candidate_session(folder: Path) -> Session:
    """Return the session of a run, of two servers side by side that of the candidate.

    Raises:
        StorageError: it cannot be read.
    """
    from pytest_modellens.gate.absolute import of_candidate

    run = RecordedRun(folder)
    return session_of(run.name, run.meta, of_candidate(run))


def recorded_sides(folder: Path, **about: Any) -> RunVerdict | None:
    """Return the verdict on a run that measured two servers side by side; None when it did not.

    Args:
        folder: of the run.
        about: limits and all else that `judge_sides` takes, but for the look.

    Raises:
        StorageError: it cannot be read.
    """
    from pytest_modellens.gate.sides import judge_sides

    run = RecordedRun(folder)
    planned = run.meta.get("side_by_side")
    looks = planned.get("looks") if isinstance(planned, dict) else None
    # Whoever looks at data that was stopped at a look must be as sure as at that look.
    n_looks = len(looks) if isinstance(looks, list) and looks else 1
    return judge_sides(folder.name, run.meta, run, n_looks=n_looks, **about)
