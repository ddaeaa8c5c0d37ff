"""The terminal's table of loads: what was asked, what was achieved, what the server did under it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_modellens.report.table import Line, aligned, clipped, short
from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["load_table"]

_HEADER = ("load", "asked", "achieved", "req/s", "tok/s", "goodput 95 %", "err", "dropped")
_NOTES = (
    "asked: c requests in flight, or /s started; tok/s of all requests together",
    "dropped: requests of the transient, before the load was steady",
)
_CASE_WIDTH = 24


def load_table(cells: Sequence[Mapping[str, Any]], *, width: int) -> list[Line]:
    """Return the lines of the table of `cells` as `run.json` holds them; none without a load.

    Args:
        cells: one mapping a load, with its key, `summary` and `health`.
        width: columns of the terminal.
    """
    loads = [cell for cell in cells if cell.get("summary")]
    if not loads:
        return []
    rows = [_row(cell) for cell in loads]
    widths = [max(len(text) for text in column) for column in zip(_HEADER, *rows, strict=True)]
    lines = [Line(aligned(_HEADER, widths, left={0}), "bold")]
    for cell, row in zip(loads, rows, strict=True):
        health = cell.get("health") or {}
        bound = bool(health.get("client_bound"))
        lines.append(Line(aligned(row, widths, left={0})[: max(width, 80)], "red" if bound else ""))
        if bound:
            lines.append(Line(f"  ✗ client-bound: {printable('; '.join(health['reasons']))}", "red"))
        if cell.get("stopped"):
            lines.append(Line(f"  stopped: {printable(str(cell['stopped']))}"))
    return [*lines, *(Line(f"  {note}") for note in _NOTES), Line("")]


def _row(cell: Mapping[str, Any]) -> tuple[str, ...]:
    summary = cell["summary"]
    params = ",".join(f"{key}={value}" for key, value in cell["params"].items())
    case = printable(f"{cell['case']}[{params}]" if params else str(cell["case"]))
    return (
        clipped(case, _CASE_WIDTH),
        _target(summary["asked_concurrency"], summary["asked_rate"]),
        _target(
            None if summary["asked_concurrency"] is None else summary["achieved_concurrency"], summary["achieved_rate"]
        ),
        short(summary["request_throughput"]),
        short(summary["output_throughput"]),
        _goodput(summary),
        "–" if not summary["error_rate"] else f"{summary['error_rate']:.1%}",
        str(cell.get("transient_requests") or "–"),
    )


def _target(concurrency: float | None, rate: float | None) -> str:
    if concurrency is not None:
        return f"c {concurrency:.3g}"
    return "–" if rate is None else f"{rate:.3g}/s"


def _goodput(summary: Mapping[str, Any]) -> str:
    if summary["goodput"] is None:
        return "–"
    interval = summary["goodput_interval"]
    bounds = f" {interval['low']:.0%}–{interval['high']:.0%}" if interval else ""
    return f"{summary['goodput']:.0%}{bounds}"
