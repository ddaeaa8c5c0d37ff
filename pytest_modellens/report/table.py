"""The terminal's tables: one per suite, cells as rows, within the width of the terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from pytest_modellens.gate.session import case_key
from pytest_modellens.report.lines import MIN_WIDTH, Line, aligned, clipped, folded, room_in, squeezed, widths_of
from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from pytest_modellens.report.cell_key import CellKey
    from pytest_modellens.report.gated import Changes
    from pytest_modellens.report.summary import CellSummary, Distribution

__all__ = ["PROVIDER_WIDTH", "short", "tables", "worst"]

PROVIDER_WIDTH = 14
_WIDTH_FOR_SHAPES = 100
_MANY = 8
_BARS = " ▁▂▃▄▅▆▇█"
_NOTES = {
    "✗": "✗ did not pass",
    "!": "! some requests are not valid measurements and are left out",
    "~": "~ tokens estimated: one event counted as one, the server gave no count",
    "c": "c prompts came from the server's cache: TTFT leaves out work (use cache: cold)",
    "?": "? cache: cold or warm was asked for, and the server does not tell whether it was",
    "d": "d degraded: the machine or the server was disturbed",
    "≠": "≠ the server's own times differ from ours by more than 5 ms and 5 %",
    "e": "e not streamed: tokens per second end to end, time to first token included",
}


class _Row(NamedTuple):
    case: str
    provider: str
    n: str
    ttft: str
    tpot: str
    speed: str
    shape: str
    change: str
    errors: str
    marks: str


_HEADER = _Row("case", "provider", "n", "TTFT p50/p95", "TPOT", "tok/s 95 %", "total time", "", "err", "")


_LEFT = {0, 1, 5, 6, 7, 9}


def tables(
    summaries: Iterable[CellSummary],
    *,
    failed: Collection[CellKey] = (),
    changes: Changes | None = None,
    width: int = MIN_WIDTH,
) -> list[Line]:
    """Return the lines of all tables, a table per suite and model.

    Args:
        summaries: the cells.
        failed: those whose test did not pass.
        changes: how they changed against a baseline.
        width: columns of the terminal; tables use from 80 to 120 of them.
    """
    groups: dict[tuple[str, str | None], list[CellSummary]] = {}
    for summary in summaries:
        groups.setdefault((summary.key.suite, summary.key.model), []).append(summary)
    lines: list[Line] = []
    for (suite, model), cells in groups.items():
        lines += _table(printable(f"{suite} · {model or 'no model'}"), cells, failed, changes, width)
    return lines


def _table(
    title: str, cells: Sequence[CellSummary], failed: Collection[CellKey], changes: Changes | None, width: int
) -> list[Line]:
    rows = [_row(cell, cell.key in failed, _change(cell, changes, width)) for cell in cells]
    header = _HEADER
    if changes is not None and any(row.change for row in rows):
        header = header._replace(change=f"vs {changes.baseline}")
    if width < _WIDTH_FOR_SHAPES or not any(row.shape for row in rows):
        header, rows = header._replace(shape=""), [row._replace(shape="") for row in rows]
    widths = widths_of([header, *rows])
    room = room_in(width)
    # The case's name gives way: everything else is short.
    widths[0] = max(12, min(widths[0], room - sum(widths[1:]) - len(widths) + 1))
    shown = [row._replace(case=squeezed(row.case, widths[0])) for row in rows]
    lines = [Line(clipped(title, room), "bold"), Line(aligned(header, widths, left=_LEFT))]
    lines += [Line(aligned(row, widths, left=_LEFT), "red" if "✗" in row.marks else "") for row in shown]
    return [*lines, *(Line(f"  {note}") for note in _notes(rows, cells, changes if header.change else None)), Line("")]


def _change(cell: CellSummary, changes: Changes | None, width: int) -> str:
    if changes is None:
        return ""
    key = case_key(
        {"suite": cell.key.suite, "case": cell.key.case, "params": cell.params, "provider": cell.key.provider}
    )
    return changes.by_case.get(key, ("", ""))[width >= _WIDTH_FOR_SHAPES]


def _row(cell: CellSummary, failed: bool, change: str = "") -> _Row:
    params = ",".join(f"{printable(key)}={printable(str(value), limit=20)}" for key, value in cell.params.items())
    case = printable(cell.key.case)
    marks = "✗" if failed else "✓"
    marks += "!" if cell.n_invalid else ""
    marks += "~" if cell.tokens_estimated else ""
    marks += "c" if cell.n_cached or _is_cached_by_counters(cell) else ""
    marks += "?" if cell.server.get("cache") and cell.server.get("cached_tokens_by") == "nothing" else ""
    marks += "d" if cell.degraded else ""
    marks += "≠" if cell.disagreements else ""
    marks += "e" if cell.tokens_per_second_mode == "end_to_end" else ""
    n_failed = cell.n_errors + cell.n_warmup_failed
    return _Row(
        case=f"{case}[{params}]" if params else case,
        provider=clipped(printable(cell.key.provider), PROVIDER_WIDTH),
        n=str(cell.n_averaged),
        ttft=f"{short(cell.ttft_ms.p50)}/{short(cell.ttft_ms.p95)}" if cell.ttft_ms.n else "–",
        tpot=short(cell.tpot_ms.p50),
        speed=_speed(cell.tokens_per_second),
        shape=_spark(cell.shape),
        change=change,
        errors=str(n_failed) if n_failed else "–",
        marks=marks,
    )


def _is_cached_by_counters(cell: CellSummary) -> bool:
    return cell.server.get("cached_tokens_by") == "counters" and bool(cell.server.get("cached_tokens"))


def _spark(counts: Sequence[int]) -> str:
    """Return a distribution as a line of bars; a step without requests is a gap."""
    most = max(counts, default=0)
    return "".join(_BARS[math.ceil(len(_BARS[1:]) * count / most)] for count in counts)


def worst(summaries: Sequence[CellSummary]) -> list[Line]:
    """Return who is slowest, of many cells; none of a few, which a look at the table shows."""
    if len(summaries) < _MANY:
        return []
    late = max(summaries, key=lambda cell: cell.ttft_ms.p50 or 0.0)
    streamed = [cell for cell in summaries if cell.tokens_per_second_mode == "generation"]
    slow = min(streamed, key=lambda cell: cell.tokens_per_second.p50 or math.inf, default=None)
    parts = []
    if late.ttft_ms.p50:
        parts.append(f"first token {_row(late, False).case} {short(late.ttft_ms.p50)} ms")
    if slow is not None and slow.tokens_per_second.p50:
        parts.append(f"generation {_row(slow, False).case} {short(slow.tokens_per_second.p50)} tok/s")
    return [Line(line) for line in folded(f"slowest: {' · '.join(parts)}", MIN_WIDTH - 1)] if parts else []


def _speed(rate: Distribution) -> str:
    if rate.p50 is None:
        return "–"
    if rate.interval is None:
        return f"{short(rate.p50):>5}"
    return f"{short(rate.p50):>5} {short(rate.interval.low)}–{short(rate.interval.high)}"


def short(value: float | None) -> str:
    """Return three significant digits of a positive number; "–" for None."""
    if value is None:
        return "–"
    if value >= 99_950:
        return f"{value / 1000:.0f}k"
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def _notes(rows: Sequence[_Row], cells: Sequence[CellSummary], changes: Changes | None) -> list[str]:
    marks = {mark for row in rows for mark in row.marks}
    notes = ["medians; TTFT and TPOT in ms"]
    if changes is not None:
        interval = ", with its 90 % interval" if any("…" in row.change for row in rows) else ""
        notes.append(f"vs {changes.baseline}: change of {changes.metric} against that baseline{interval}")
    if any(cell.tokens_per_second.p50 is not None and cell.tokens_per_second.interval is None for cell in cells):
        notes.append("no 95 % interval of a median from fewer than 6 requests")
    reasons = dict.fromkeys(printable(reason, 200) for cell in cells for reason in cell.degraded)
    said = [note for mark, note in _NOTES.items() if mark in marks]
    both = [
        f"≠ {row.case}, {row.provider}: {found} ({found.n} of {cell.n_averaged})"
        for row, cell in zip(rows, cells, strict=True)
        for found in cell.disagreements
    ]
    more = dict.fromkeys(
        f"{row.case}, {row.provider}: {printable(note, 200)}"
        for row, cell in zip(rows, cells, strict=True)
        for note in cell.notes
    )
    lines = (line for text in (*reasons, *both, *more) for line in folded(text, MIN_WIDTH - 6))
    return [*notes, *said, *(f"  {line}" for line in lines)]
