"""Baselines that are of before a change: who judges against them judges against what was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_modellens.errors import StorageError
from pytest_modellens.gate.baseline import baseline_folder, list_baselines, read_baseline
from pytest_modellens.report.lines import folded, room_in
from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_modellens.history.changes import Change
    from pytest_modellens.history.series import Series

__all__ = ["anchor_lines"]


def anchor_lines(results: Path, found: Sequence[tuple[Series, Sequence[Change]]], *, width: int = 80) -> list[str]:
    """Return of each baseline of `results` whether sessions of it are from before the newest change of its cases."""
    newest: dict[str, str] = {}
    for series, changes in found:
        for change in changes:
            newest[series.case] = max(newest.get(series.case, ""), change.after.run)
    lines: list[str] = []
    for name in list_baselines(results) if newest else ():
        try:
            sessions = read_baseline(baseline_folder(results, name)).sessions
        except StorageError as exc:
            lines.append(f"note: {printable(str(exc), limit=500)}")
            continue
        since = max((newest.get(case, "") for session in sessions for case in session.cases), default="")
        old = sum(session.name < since for session in sessions)
        if old:
            text = f"baseline {name}: {old} of its {len(sessions)} sessions are from before the change at {since}"
            lines += folded(printable(text, limit=500), room_in(width), then="  ")
            lines.append(f"  judge by the new level: modellens baseline reanchor {name} --since {printable(since)}")
    return lines
