"""The terminal's table of loads: what was asked, what was achieved, what the server did under it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_modellens.report.lines import Line, aligned, clipped, folded, room_in, squeezed, widths_of
from pytest_modellens.report.table import PROVIDER_WIDTH, short
from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["load_names", "load_table"]

_HEADER = ("load", "asked", "achieved", "req/s", "tok/s", "goodput 95 %", "err", "dropped")
_NOTES = (
    "asked: c requests in flight, or /s started; tok/s of all requests together",
    "dropped: requests of the transient, before the load was steady",
)
_LEAST_CASE_WIDTH = 8


def load_table(cells: Sequence[Mapping[str, Any]], *, width: int) -> list[Line]:
    """Return the lines of the table of `cells` as `run.json` holds them; none without a load.

    Args:
        cells: one mapping a load, with its key, `summary` and `health`.
        width: columns of the terminal; the table uses from 80 to 120 of them.
    """
    loads = [cell for cell in cells if cell.get("summary")]
    if not loads:
        return []
    room = room_in(width)
    names = load_names(loads)
    rows = [(name, *_row(cell)) for name, cell in zip(names, loads, strict=True)]
    widths = widths_of([_HEADER, *rows])
    # The load's name gives way: everything else is short.
    widths[0] = max(_LEAST_CASE_WIDTH, min(widths[0], room - sum(widths[1:]) - len(widths) + 1))
    lines = [Line(aligned(_HEADER, widths, left={0}), "bold")]
    for (name, *values), cell in zip(rows, loads, strict=True):
        health = cell.get("health") or {}
        bound = bool(health.get("client_bound"))
        lines.append(Line(aligned((squeezed(name, widths[0]), *values), widths, left={0}), "red" if bound else ""))
        if bound:
            lines += (Line(text, "red") for text in _folded(f"✗ client-bound: {'; '.join(health['reasons'])}", room))
        if cell.get("stopped"):
            lines += (Line(text, "red") for text in _folded(f"✗ stopped early: {cell['stopped']}", room))
        if cell.get("changed"):
            lines += (Line(text, "yellow") for text in _folded(f"! changed while it lasted: {cell['changed']}", room))
    return [*lines, *(Line(f"  {note}") for note in _NOTES), Line("")]


def load_names(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what each load is called, with its provider in front where there are several."""
    has_several = len({cell.get("provider") for cell in cells}) > 1
    names = []
    for cell in cells:
        params = ",".join(f"{printable(key)}={printable(str(value), 20)}" for key, value in cell["params"].items())
        name = printable(str(cell["case"])) + (f"[{params}]" if params else "")
        names.append(f"{clipped(printable(str(cell['provider'])), PROVIDER_WIDTH)} {name}" if has_several else name)
    return names


def _row(cell: Mapping[str, Any]) -> tuple[str, ...]:
    summary = cell["summary"]
    is_closed = summary.get("asked_concurrency") is not None
    return (
        _target(summary, "asked", is_closed),
        _target(summary, "achieved", is_closed),
        short(summary.get("request_throughput")),
        short(summary.get("output_throughput")),
        _goodput(summary),
        f"{summary['error_rate']:.1%}" if summary.get("error_rate") else "–",
        str(cell.get("transient_requests") or "–"),
    )


def _target(summary: Mapping[str, Any], which: str, is_closed: bool) -> str:
    value = summary.get(f"{which}_{'concurrency' if is_closed else 'rate'}")
    if value is None:
        return "–"
    text = f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}"
    return f"c {text}" if is_closed else f"{text}/s"


def _goodput(summary: Mapping[str, Any]) -> str:
    if summary.get("goodput") is None:
        return "–"
    interval = summary.get("goodput_interval")
    bounds = f" {interval['low']:.0%}–{interval['high']:.0%}" if interval else ""
    return f"{summary['goodput']:.0%}{bounds}"


def _folded(text: str, room: int) -> list[str]:
    return folded(printable(text, 1000), room, indent="  ", then="    ")
