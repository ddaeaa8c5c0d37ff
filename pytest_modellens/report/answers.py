"""The answers and the failures of a cell, alike ones together."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_modellens.report.cells import CellData

__all__ = ["Answer", "answers_of", "failures_of"]

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Answer:
    """One text that came back, and how often."""

    text: str
    count: int
    reasoning: str
    finish_reason: str | None
    wrong: tuple[str, ...]
    """Why it is not what the case expects; empty when it is."""


def answers_of(cell: CellData) -> list[Answer]:
    """Return the most frequent answers among the kept records, those that were not as expected first."""
    counts: Counter[tuple[str, str, str | None, tuple[str, ...]]] = Counter()
    for record in (*cell.failed, *cell.averaged):
        if record["ok"]:
            counts[
                str(record.get("response") or ""),
                str(record.get("reasoning") or ""),
                record.get("finish_reason"),
                tuple(record.get("expect_failures") or ()),
            ] += 1
    ranked = sorted(counts.items(), key=lambda item: (not item[0][3], -item[1]))
    return [
        Answer(text, count, reasoning, reason, wrong) for (text, reasoning, reason, wrong), count in ranked[:_SHOWN]
    ]


def failures_of(cell: CellData) -> list[str]:
    """Return the different errors among the kept records, with their number; the most frequent first."""
    counts = Counter(
        f"{record.get('error_class') or 'other'}: {record.get('error') or 'no reason given'}"
        for record in cell.failed
        if not record["ok"]
    )
    return [f"{count} × {text}" if count > 1 else text for text, count in counts.most_common(_SHOWN)]
