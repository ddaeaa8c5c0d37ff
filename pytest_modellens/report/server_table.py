"""The terminal's table of what servers said of themselves under load, beside what the client counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_modellens.report.lines import Line, aligned, room_in, squeezed, widths_of
from pytest_modellens.report.load_table import load_names
from pytest_modellens.report.table import short
from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["server_table"]

_HEADER = ("server", "running", "waiting", "peak", "KV cache", "cached", "preempted", "tokens", "seen here")
_NOTE = "running, waiting: means over the load; tokens: written by the server, and as counted here"


def server_table(cells: Sequence[Mapping[str, Any]], *, width: int) -> list[Line]:
    """Return the lines of the table of `cells` as `run.json` holds them; none where no server told anything.

    Args:
        cells: one mapping a load, with its key and `server`.
        width: columns of the terminal; the table uses from 80 to 120 of them.
    """
    told = [cell for cell in cells if cell.get("server")]
    shown = [cell for cell in told if cell["server"].get("scrapes")]
    lines: list[Line] = []
    if shown:
        room = room_in(width)
        names = load_names(shown)
        rows = [(name, *_row(cell["server"])) for name, cell in zip(names, shown, strict=True)]
        # What no server tells, takes no room.
        columns = [column for column in zip(_HEADER, *rows, strict=True) if {*column[1:]} != {"–"}]
        widths = widths_of([*zip(*columns, strict=True)])
        widths[0] = max(len(_HEADER[0]), min(widths[0], room - sum(widths[1:]) - len(widths) + 1))
        header, *others = zip(*columns, strict=True)
        lines.append(Line(aligned(header, widths, left={0}), "bold"))
        lines += [Line(aligned((squeezed(name, widths[0]), *rest), widths, left={0})) for name, *rest in others]
        lines.append(Line(f"  {_NOTE}"))
    notes = dict.fromkeys(printable(str(cell["server"]["note"]), 300) for cell in told if cell["server"].get("note"))
    lines += [Line(f"  server's metrics: {note}") for note in notes]
    return [*lines, Line("")] if lines else []


def _row(server: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        _level(server.get("requests_running_mean")),
        _level(server.get("requests_waiting_mean")),
        _level(server.get("requests_waiting_peak")),
        _percent(server.get("kv_cache_percent_peak")),
        _percent(server.get("cache_hit_percent")),
        _count(server.get("preemptions")),
        _count(server.get("generation_tokens")),
        _count(server.get("client_generation_tokens")),
    )


def _level(value: float | None) -> str:
    return "0" if value == 0 else short(value)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} %"


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"
