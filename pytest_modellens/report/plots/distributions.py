"""Distributions of a metric: as cumulative share of requests, and as dots with the median's interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_modellens.report.plots.plot import Plot
from pytest_modellens.report.plots.series import label, median_of, thinned, with_unit
from pytest_modellens.report.plots.style import DASHES, axis_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure, SubFigure
    from matplotlib.ticker import FixedLocator

    from pytest_modellens.report.plots.series import Series
    from pytest_modellens.report.plots.style import Theme

__all__ = ["ecdf", "strip"]

_STEPS = 100
_DOTS = 120
_FEW = 30
"""Dots up to here are large enough to be seen beside the interval."""
_GOLDEN = 0.6180339887498949
"""Multiples of it, modulo 1, spread evenly at any count: jitter that is the same every time."""


def ecdf(name: str, series: Sequence[Series], *, what: str, unit: str, of: str = "requests") -> Plot:
    """Return the empirical cumulative distribution of each series: which share of `of` was at or below each value."""

    def draw(figure: Figure | SubFigure, theme: Theme) -> None:
        axes = figure.subplots()
        figure.subplots_adjust(left=0.11, right=0.97, top=0.88, bottom=0.17 if len(series) < 2 else 0.27)
        for number, one in enumerate(series):
            values = thinned(one.values, _STEPS)
            shares = [100 * (k + 1) / len(values) for k in range(len(values))]
            axes.step(
                [values[0], *values],
                [0.0, *shares],
                where="post",
                color=theme.series[number % len(theme.series)],
                linestyle=DASHES[number % len(DASHES)],
                label=label(one.label),
            )
        axes.set_ylim(0, 103)
        axis_labels(axes, f"{what}, {unit}", f"% of {of} at or below")
        axes.yaxis.set_major_locator(_at(0, 25, 50, 75, 100))
        if len(series) > 1:
            figure.legend(loc="lower left", ncols=3, bbox_to_anchor=(0.08, 0))

    facts = "; ".join(f"{label(one.label)}: {len(one.values):,} values" for one in series)
    return Plot(name, f"{what}, cumulative", f"Share of {of} at or below each value. {facts}.", draw, height=2.9)


def strip(name: str, series: Sequence[Series], *, what: str, unit: str) -> Plot:
    """Return a row of dots a series, one a request, with its median and the median's 95 % interval."""
    rows = [one for one in series if one.values]

    def draw(figure: Figure | SubFigure, theme: Theme) -> None:
        axes = figure.subplots()
        room = 0.5 + 0.42 * len(rows)
        figure.subplots_adjust(left=0.30, right=0.97, top=1 - 0.14 / room, bottom=0.46 / (room + 0.2))
        for number, one in enumerate(rows):
            colour = theme.series[number % len(theme.series)]
            values = thinned(one.values, _DOTS)
            heights = [-number + 0.5 * ((k * _GOLDEN) % 1 - 0.5) for k in range(len(values))]
            few = len(values) <= _FEW
            size, alpha = (5.0, 0.8) if few else (3.0, 0.45)
            axes.plot(values, heights, "o", color=colour, markersize=size, alpha=alpha, markeredgewidth=0)
            found = median_of(one)
            assert found is not None
            if found.low is not None and found.high is not None:
                axes.plot([found.low, found.high], [-number, -number], color=theme.ink, linewidth=2.4)
            axes.plot([found.value], [-number], "o", color=theme.ink, markersize=7, markeredgecolor=theme.background)
        axes.set_ylim(0.5 - len(rows), 0.5)
        axes.set_yticks([-k for k in range(len(rows))], [label(one.label, 22) for one in rows])
        axes.grid(visible=False, axis="y")
        axis_labels(axes, with_unit(what, unit), "")
        axes.yaxis.set_major_locator(_at(*[-k for k in range(len(rows))]))

    facts = []
    for one in rows:
        found = median_of(one)
        assert found is not None
        bounds = f" ({found.low:.4g} to {found.high:.4g})" if found.low is not None else ""
        facts.append(f"{label(one.label)}: median {found.value:.4g}{bounds}")
    return Plot(
        name, f"{what} of each request", f"{'; '.join(facts)} {unit or what}.", draw, height=0.7 + 0.42 * len(rows)
    )


def _at(*values: float) -> FixedLocator:
    from matplotlib.ticker import FixedLocator

    return FixedLocator(values)
