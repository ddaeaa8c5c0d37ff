"""A history as lines of text."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from pytest_modellens.gate.specs import show_change
from pytest_modellens.history.changes import LEAST_RUNS
from pytest_modellens.report.lines import aligned, clipped, folded, room_in, widths_of
from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_modellens.history.changes import Change
    from pytest_modellens.history.series import Point, Series

__all__ = ["change_lines", "history_lines"]

_BARS = "▁▂▃▄▅▆▇█"
_LONGEST = 30
_SHOWN = 6
_HEADER = ("", "runs", "first", "last", "change", "run after run")


def history_lines(
    found: Sequence[tuple[Series, Sequence[Change]]], *, width: int = 80, every_run: bool = False
) -> list[str]:
    """Return a table for each case, a row a metric; with `every_run`, a row a run instead.

    Args:
        found: the series with their changes, those of a case together.
        width: columns of the terminal.
        every_run: whether to show single runs.
    """
    lines: list[str] = []
    room = room_in(width)
    for (case, model), group in groupby(found, key=lambda pair: (pair[0].case, pair[0].model)):
        lines.append(clipped(printable(f"{case} · {model}", limit=500), room))
        rows = [*group]
        if every_run:
            for series, changes in rows:
                lines += _runs(series, changes, room)
            continue
        cells = [_row(series) for series, _ in rows]
        widths = widths_of([_HEADER, *cells])
        lines.append("  " + aligned(_HEADER, widths, left={0, 5}))
        for row, (series, _) in zip(cells, rows, strict=True):
            lines.append("  " + aligned(row, widths, left={0, 5}))
            lines += _begins_anew(series, room)
        lines.append("")
    return lines


def _begins_anew(series: Series, room: int) -> list[str]:
    if not series.apart:
        return []
    return folded(printable(f"begins anew: {'; '.join(series.apart)}", limit=500), room, indent="    ")


def _row(series: Series) -> tuple[str, ...]:
    points = series.points
    first, last = points[0].median, points[-1].median
    change = show_change("", last / first - 1) if len(points) > 1 else "–"
    return (series.metric, str(len(points)), f"{first:.4g}", f"{last:.4g}", change, _spark(points))


def _spark(points: Sequence[Point]) -> str:
    """Return the newest runs as a line of bars, from the lowest median to the highest."""
    values = [point.median for point in points[-_LONGEST:]]
    low, high = min(values), max(values)
    if low == high:
        return _BARS[3] * len(values)
    return "".join(_BARS[min(7, int(8 * (value - low) / (high - low)))] for value in values)


def _runs(series: Series, changes: Sequence[Change], room: int) -> list[str]:
    lines = [f"  {series.metric}", *_begins_anew(series, room)]
    at = {change.at: change for change in changes}
    rows = [
        (
            clipped(printable(point.run), 34),
            _commit(point),
            str(point.n),
            f"{point.median:.4g}",
            "" if point.low is None or point.high is None else f"{point.low:.4g}–{point.high:.4g}",
            show_change("", at[number].ratio - 1) if number in at else "",
        )
        for number, point in enumerate(series.points)
    ]
    header = ("run", "commit", "n", "median", "95 %", "change")
    widths = widths_of([header, *rows])
    return [*lines, *("    " + aligned(row, widths, left={0, 1}) for row in (header, *rows)), ""]


def _commit(point: Point) -> str:
    return printable((point.commit or "–")[:9]) + ("+" if point.is_dirty else "")


def change_lines(
    found: Sequence[tuple[Series, Sequence[Change]]], *, width: int = 80, is_searched: bool = True
) -> list[str]:
    """Return what changed, by the run from which on it did, newest last; `is_searched` if changes were looked for."""
    room = room_in(width)
    by_run: dict[str, list[tuple[Series, Change]]] = {}
    for series, changes in found:
        for change in changes:
            by_run.setdefault(change.after.run, []).append((series, change))
    lines: list[str] = []
    for run in sorted(by_run):
        group = by_run[run]
        lines += folded(f"changed from {printable(run)} on ({_between(group[0][1])})", room, then="  ")
        for series, change in group[:_SHOWN]:
            what = f"{series.metric} {show_change('', change.ratio - 1)}: {series.case}"
            lines += folded(printable(what, limit=500), room, indent="  ", then="    ")
        if len(group) > _SHOWN:
            lines.append(f"  and {len(group) - _SHOWN} more")
    longest = max((len(series.points) for series, _ in found), default=0)
    if longest < LEAST_RUNS:
        lines.append(f"changes are looked for in series of {LEAST_RUNS} runs or more; the longest has {longest}")
    elif not lines and is_searched:
        lines.append("no change of a level is seen")
    return lines


def _between(change: Change) -> str:
    """Return what else became different between the two runs, as far as they say."""
    facts: Mapping[str, str | None] = {
        "commits": change.commits,
        "server": (
            f"{change.before.server_version} → {change.after.server_version}"
            if change.before.server_version != change.after.server_version
            else None
        ),
    }
    told = [f"{name} {printable(text)}" for name, text in facts.items() if text]
    if change.before.is_dirty or change.after.is_dirty:
        told.append("with changes that were not committed")
    return ", ".join(told) or f"after {printable(change.before.run)}; no other commit or server version"
