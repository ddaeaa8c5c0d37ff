"""Loads: latency against throughput over a sweep, and goodput against what was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_modellens.report.plots.plot import Plot
from pytest_modellens.report.plots.series import label
from pytest_modellens.report.plots.style import DASHES, axis_labels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure, SubFigure

    from pytest_modellens.report.plots.style import Theme

__all__ = ["LoadPoint", "goodput", "knee", "sweep"]


@dataclass(frozen=True, slots=True)
class LoadPoint:
    """One load of a sweep."""

    asked: float
    """Concurrency, or requests per second."""
    throughput: float
    """Output tokens per second, or requests per second."""
    latency: float
    """In ms."""
    goodput: float | None = None
    """From 0 to 1."""
    goodput_low: float | None = None
    goodput_high: float | None = None
    is_valid: bool = True
    """False where the client was the bottleneck."""


def knee(points: Sequence[LoadPoint]) -> LoadPoint | None:
    """Return the point after which more load costs more latency than it brings throughput; None without one.

    Both axes are scaled to 0..1; the knee is the point that lies furthest below the line from the first point to the
    last (Satopaa et al., Finding a "Kneedle" in a Haystack, 2011). A sweep of fewer than four points, one whose
    throughput or latency does not rise, and one that is straight to within 10 % of the range have none.
    """
    ordered = sorted(points, key=_asked)
    if len(ordered) < 4:
        return None
    first, last = ordered[0], ordered[-1]
    highest = max(point.throughput for point in ordered)
    wide, tall = highest - first.throughput, last.latency - first.latency
    if wide <= 0 or tall <= 0:
        return None
    depths = [
        (point.throughput - first.throughput) / wide - (point.latency - first.latency) / tall for point in ordered
    ]
    deepest = max(range(len(ordered)), key=depths.__getitem__)
    return ordered[deepest] if depths[deepest] > 0.1 and 0 < deepest < len(ordered) - 1 else None


def sweep(
    name: str,
    series: Mapping[str, Sequence[LoadPoint]],
    *,
    latency: str,
    throughput: str,
    is_rate: bool,
    slo_ms: float | None = None,
) -> Plot:
    """Return latency against throughput, a line a series; each point says the load, the knee has a ring.

    Args:
        name: of the plot.
        series: points by what they are of.
        latency: what the latency is, such as "TTFT p95".
        throughput: what the throughput is, with its unit.
        is_rate: whether the load is a rate; else it is a concurrency.
        slo_ms: the objective for the latency; None without one.
    """
    unit = "/s" if is_rate else " in flight"

    def draw(figure: Figure | SubFigure, theme: Theme) -> None:
        axes = figure.subplots()
        figure.subplots_adjust(left=0.12, right=0.93, top=0.88, bottom=0.16 if len(series) < 2 else 0.24)
        for number, (title, points) in enumerate(series.items()):
            colour = theme.series[number % len(theme.series)]
            ordered = sorted(points, key=_asked)
            axes.plot(
                [point.throughput for point in ordered],
                [point.latency for point in ordered],
                linestyle=DASHES[number % len(DASHES)],
                color=colour,
                label=label(title),
            )
            for point in ordered:
                face = colour if point.is_valid else theme.background
                axes.plot([point.throughput], [point.latency], "o", color=colour, markerfacecolor=face, markersize=5)
            bend = knee(ordered)
            # Every second series has its numbers below its line, so that those of two do not meet.
            offset = (0, 8) if number % 2 == 0 else (0, -15)
            for point in ordered:
                at = (point.throughput, point.latency)
                text = f"{point.asked:g}" + (" knee" if point is bend else "")
                colour = theme.ink if point is bend else theme.muted
                axes.annotate(text, at, offset, textcoords="offset points", ha="center", color=colour)
            if bend is not None:
                axes.plot(
                    [bend.throughput], [bend.latency], "o", markersize=12, markerfacecolor="none", color=theme.ink
                )
        if slo_ms is not None:
            axes.axhline(slo_ms, color=theme.bad, linewidth=1.2, linestyle=(0, (4, 3)))
            text = f"objective {slo_ms:g} ms"
            axes.annotate(
                text,
                (1, slo_ms),
                (-2, 3),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                ha="right",
                color=theme.bad,
            )
        axes.set_ylim(0, 1.12 * axes.get_ylim()[1])
        axes.set_xlim(left=0)
        axis_labels(axes, throughput, f"{latency}, ms (numbers: requests{unit})")
        if len(series) > 1:
            figure.legend(loc="lower left", ncols=3, bbox_to_anchor=(0.08, 0))

    facts = []
    for text, points in series.items():
        of = [f"{p.asked:g}{unit}: {p.throughput:.4g}, {p.latency:.4g} ms" for p in sorted(points, key=_asked)]
        bend = knee(points)
        facts.append(f"{label(text)}: {'; '.join(of)}" + (f"; knee at {bend.asked:g}{unit}" if bend else ""))
    return Plot(name, f"{latency} against throughput", f"{'. '.join(facts)}.", draw, height=3.4)


def goodput(name: str, series: Mapping[str, Sequence[LoadPoint]], *, is_rate: bool) -> Plot:
    """Return the share of requests that met every objective against the load asked for, with 95 % intervals."""
    unit = "requests per second asked for" if is_rate else "requests in flight asked for"

    def draw(figure: Figure | SubFigure, theme: Theme) -> None:
        axes = figure.subplots()
        figure.subplots_adjust(left=0.12, right=0.95, top=0.88, bottom=0.16 if len(series) < 2 else 0.24)
        for number, (text, points) in enumerate(series.items()):
            colour = theme.series[number % len(theme.series)]
            known = sorted((point for point in points if point.goodput is not None), key=_asked)
            for point in known:
                if point.goodput_low is not None and point.goodput_high is not None:
                    axes.plot([point.asked] * 2, [100 * point.goodput_low, 100 * point.goodput_high], color=colour)
            axes.plot(
                [point.asked for point in known],
                [100 * (point.goodput or 0.0) for point in known],
                marker="o",
                markersize=5,
                color=colour,
                linestyle=DASHES[number % len(DASHES)],
                label=label(text),
            )
        axes.set_ylim(0, 105)
        axes.set_xlim(left=0)
        axis_labels(axes, unit, "% of requests started that met every objective")
        if len(series) > 1:
            figure.legend(loc="lower left", ncols=3, bbox_to_anchor=(0.08, 0))

    facts = []
    for text, points in series.items():
        of = [f"{p.asked:g}: {p.goodput:.0%}" for p in sorted(points, key=_asked) if p.goodput is not None]
        facts.append(f"{label(text)}: {'; '.join(of)}")
    return Plot(name, "Goodput against load", f"{'. '.join(facts)}.", draw, height=3.0)


def _asked(point: LoadPoint) -> float:
    return point.asked
