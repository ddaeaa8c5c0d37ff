"""Single requests: where the time of each went, and when its tokens came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_modellens.report.plots.plot import Plot, inches
from pytest_modellens.report.plots.series import label
from pytest_modellens.report.plots.style import axis_labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.figure import Figure, SubFigure

    from pytest_modellens.report.plots.style import Theme

__all__ = ["Span", "arrivals", "spans", "waterfall"]

MOST = 20
"""Requests that one plot shows."""


@dataclass(frozen=True, slots=True)
class Span:
    """One request on the time axis of its cell, in ms."""

    begin: float
    waited: float
    """In the client, before it was sent."""
    queue: float
    """In the server's queue, by its own account; 0 when it says nothing."""
    first: float
    """From there to the first token: prefill, and the way there and back."""
    rest: float
    """From the first token to the end."""
    ok: bool = True


def spans(records: Iterable[Mapping[str, Any]]) -> list[Span]:
    """Return the first requests whose times are known; in a load where they were, else all from 0."""
    found = []
    for record in records:
        total = record.get("total_time_ms")
        if total is None:
            timeline = record.get("timeline") or {}
            ended = timeline.get("ended_ns")
            if ended is None:
                continue
            total = ended / 1e6
        ttft = record.get("ttft_ms")
        queue = min((record.get("server_timings") or {}).get("server_queue_ms") or 0.0, ttft or total)
        sent = record.get("sent_ns")
        found.append(
            Span(
                begin=0.0 if sent is None else sent / 1e6,
                waited=max(0.0, record.get("schedule_delay_ms") or 0.0),
                queue=queue,
                first=(total if ttft is None else ttft) - queue,
                rest=0.0 if ttft is None else max(0.0, total - ttft),
                ok=bool(record.get("ok")),
            )
        )
        if len(found) == MOST:
            break
    return sorted(found, key=lambda span: span.begin)


def waterfall(name: str, rows: Sequence[Span], *, of: str = "") -> Plot:
    """Return a bar a request: waiting in the client, queue, until the first token, and decoding; `of` whom."""
    has_wait, has_queue = any(row.waited for row in rows), any(row.queue for row in rows)

    def draw(figure: Figure | SubFigure, theme: Theme) -> None:
        axes = figure.subplots()
        height = inches(figure)
        figure.subplots_adjust(left=0.09, right=0.97, top=1 - 0.34 / height, bottom=0.72 / height)
        parts = (
            ("waited here", theme.grid, [row.waited for row in rows], has_wait),
            ("server's queue", theme.series[4], [row.queue for row in rows], has_queue),
            ("until the first token", theme.series[1], [row.first for row in rows], True),
            ("decoding", theme.series[0], [row.rest for row in rows], True),
        )
        left = [row.begin - row.waited for row in rows]
        places = range(len(rows))
        for text, colour, widths, is_shown in parts:
            if is_shown:
                axes.barh(places, widths, left=left, height=0.72, color=colour, label=text)
            left = [at + width for at, width in zip(left, widths, strict=True)]
        for at, row in enumerate(rows):
            if not row.ok:
                axes.plot([left[at]], [at], "x", color=theme.bad, markersize=6, markeredgewidth=2)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axis_labels(axes, "ms", "a bar a request")
        axes.set_yticks([])
        figure.legend(loc="lower left", ncols=4, bbox_to_anchor=(0.06, 0), handlelength=1, columnspacing=1.2)

    firsts = sorted(row.first for row in rows)
    fact = f"{len(rows)} requests; until the first token {firsts[0]:.4g} to {firsts[-1]:.4g} ms"
    return Plot(name, _titled("Where the time went", of), f"{fact}.", draw, height=1.25 + 0.12 * max(6, len(rows)))


def arrivals(name: str, records: Iterable[Mapping[str, Any]], *, of: str = "") -> Plot | None:
    """Return tokens against time since sending, a line a request; None when no request has two arrivals."""
    lines: list[tuple[list[float], list[int]]] = []
    for record in records:
        timeline = record.get("timeline") or {}
        at = timeline.get("event_ns") or []
        if len(at) > 1 and len(lines) < MOST:
            counts = timeline.get("event_tokens") or []
            known = len(counts) == len(at) and all(count is not None for count in counts)
            lines.append(([ns / 1e6 for ns in at], counts if known else [1] * len(at)))
    if not lines:
        return None

    def draw(figure: Figure | SubFigure, theme: Theme) -> None:
        axes = figure.subplots()
        figure.subplots_adjust(left=0.11, right=0.97, top=0.88, bottom=0.17)
        for at, counts in lines:
            total, heights = 0, []
            for count in counts:
                total += count
                heights.append(total)
            step = max(1, len(at) // 40)
            axes.plot(at[::step], heights[::step], color=theme.series[0], linewidth=1.1, alpha=0.55)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axis_labels(axes, "ms since sending", "tokens arrived")
        axes.locator_params(axis="y", integer=True)

    fact = f"{len(lines)} requests, up to {max(len(at) for at, _ in lines)} pieces of text each"
    return Plot(name, _titled("Tokens over time", of), f"{fact}.", draw, height=2.9)


def _titled(title: str, of: str) -> str:
    return f"{title} · {label(of)}" if of else title
