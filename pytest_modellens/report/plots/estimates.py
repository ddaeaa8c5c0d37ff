"""Numbers with their intervals, one below the other: a metric per case, and ratios between two configurations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_modellens.report.plots.plot import Plot, inches
from pytest_modellens.report.plots.series import label, with_unit
from pytest_modellens.report.plots.style import axis_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from pytest_modellens.report.plots.series import Estimate
    from pytest_modellens.report.plots.style import Theme

__all__ = ["MOST_ROWS", "forest", "intervals"]

MOST_ROWS = 60
"""More rows than this are no picture any more; the table has them all."""
_MARKS = "osD^vP"
_ROW = 0.3
_STEPS = (1, 2, 0.5, 4, 0.25, 8, 0.125, 16, 32, 1.5, 0.7, 1.2, 0.8, 1.1, 0.9, 1.05, 0.95, 1.02, 0.98)


def intervals(name: str, rows: Sequence[Estimate], *, what: str, unit: str, series: Sequence[str] = ()) -> Plot:
    """Return medians with their 95 % intervals, a row each; rows of one label stand together.

    Args:
        name: of the plot.
        rows: what to show.
        what: the metric.
        unit: its unit; empty where `what` says it.
        series: what `Estimate.series` counts, where there are several.
    """
    rows = rows[:MOST_ROWS]

    def draw(figure: Figure | SubFigure, theme: Theme) -> None:
        axes = figure.subplots()
        places = _places(rows)
        for row, at in zip(rows, places, strict=True):
            _estimate(axes, row, at, theme)
        _rows(figure, axes, places, legend=series if len(series) > 1 else ())
        for number, one in enumerate(series if len(series) > 1 else ()):
            colour = theme.series[number % len(theme.series)]
            axes.plot([], [], _MARKS[number % len(_MARKS)], color=colour, label=label(one))
        if len(series) > 1:
            figure.legend(loc="lower left", ncols=2, bbox_to_anchor=(0.02, 0))
        axes.set_xlim(left=0)
        axis_labels(axes, with_unit(what, unit), "")
        _names(axes, rows, places)

    return Plot(
        name, f"{what} per case", _facts(rows, unit or what), draw, height=_height(rows, 1 if len(series) > 1 else 0)
    )


def forest(
    name: str, rows: Sequence[Estimate], *, what: str, than: str, better: str, overall: Estimate | None = None
) -> Plot:
    """Return ratios with their intervals around 1, a row a case, and over all of them below.

    Args:
        name: of the plot.
        rows: ratios of the second configuration to the first.
        what: the metric.
        than: the first configuration.
        better: "lower" or "higher".
        overall: the ratio over all cases.
    """
    shown = [*rows[:MOST_ROWS], *([overall] if overall is not None else ())]

    def draw(figure: Figure | SubFigure, theme: Theme) -> None:
        axes = figure.subplots()
        axes.set_xscale("log", base=2)
        places = [float(-k) for k in range(len(shown))]
        axes.axvline(1, color=theme.ink, linewidth=1)
        for row, at in zip(shown, places, strict=True):
            is_overall = row is overall
            _estimate(axes, row, at, theme, mark="D" if is_overall else "o", colour=theme.ink if is_overall else None)
        _rows(figure, axes, places)
        ends = [x for row in shown for x in (row.low, row.high, row.value) if x is not None]
        axes.set_xlim(min(0.95, *ends) / 1.03, max(1.05, *ends) * 1.03)
        side = "right" if better == "higher" else "left"
        axis_labels(axes, f"times the {what} of {label(than, 20)}; {side} of 1× is better", "")
        _names(axes, shown, places)
        _ratio_ticks(axes)

    return Plot(name, f"{what}, ratio per case", _facts(shown, "times"), draw, height=_height(shown, 0))


def _estimate(
    axes: Axes, row: Estimate, at: float, theme: Theme, *, mark: str | None = None, colour: str | None = None
) -> None:
    colour = colour or theme.series[row.series % len(theme.series)]
    mark = mark or _MARKS[row.series % len(_MARKS)]
    if row.low is not None and row.high is not None:
        axes.plot([row.low, row.high], [at, at], color=colour, linewidth=2.2, solid_capstyle="round")
        axes.plot([row.value], [at], mark, color=colour, markersize=6.5, markeredgecolor=theme.background)
    else:
        # Hollow: a number of which nobody knows how sure it is.
        axes.plot([row.value], [at], mark, color=colour, markersize=6, markerfacecolor=theme.background)


def _places(rows: Sequence[Estimate]) -> list[float]:
    places: list[float] = []
    at = 0.0
    for before, row in zip([None, *rows], rows, strict=False):
        if before is not None:
            at -= 0.62 if before.label == row.label else 1.0
        places.append(at)
    return places


def _rows(figure: Figure | SubFigure, axes: Axes, places: Sequence[float], *, legend: Sequence[str] = ()) -> None:
    height = inches(figure)
    bottom = 0.5 + (0.26 if legend else 0)
    figure.subplots_adjust(left=0.36, right=0.96, top=1 - 0.1 / height, bottom=bottom / height)
    axes.set_ylim(places[-1] - 0.6, 0.6)
    axes.grid(visible=False, axis="y")


def _names(axes: Axes, rows: Sequence[Estimate], places: Sequence[float]) -> None:
    first = [(at, row.label) for at, row, before in zip(places, rows, [None, *rows], strict=False)
             if before is None or before.label != row.label]  # fmt: skip
    axes.set_yticks([at for at, _ in first], [label(text, 27) for _, text in first])


def _ratio_ticks(axes: Axes) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = (math.log(end) for end in axes.get_xlim())
    ticks: list[float] = []
    # In the order of their importance, as long as there is room for the label.
    for step in _STEPS:
        at = math.log(step)
        if low <= at <= high and all(abs(at - math.log(tick)) > 0.12 * (high - low) for tick in ticks):
            ticks.append(step)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))


def _height(rows: Sequence[Estimate], more: int) -> float:
    return 0.75 + 0.26 * more + _ROW * max(2.0, -_places(rows)[-1] + 1 if rows else 2.0)


def _facts(rows: Sequence[Estimate], unit: str) -> str:
    parts = []
    for row in rows:
        bounds = f" ({row.low:.4g} to {row.high:.4g})" if row.low is not None else ""
        parts.append(f"{label(row.label)}: {row.value:.4g}{bounds}")
    return f"{'; '.join(parts)} {unit}."
