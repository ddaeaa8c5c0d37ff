"""Recorded runs as sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_modellens.gate.session import session_of, unfit
from pytest_modellens.storage import read_run
from pytest_modellens.text import printable

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_modellens.gate.session import Session

__all__ = ["recorded_session"]

_NEEDED = {"suite", "case", "params", "provider", "round", "ok"}
"""Fields without which a line is no record."""


def recorded_session(folder: Path) -> tuple[Session, list[str]]:
    """Return the session of a run, and why it is not fit to be held against, a sentence each.

    Raises:
        StorageError: it cannot be read.
    """
    run = read_run(folder)
    records = [record for record in run.records if record.keys() >= _NEEDED]
    wrong = [] if run.meta.get("exit_status") == 0 else ["the run failed, or was cut off"]
    wrong += [printable(problem) for problem in run.problems]
    return session_of(folder.name, run.meta, records), wrong + unfit(run.meta, records)
