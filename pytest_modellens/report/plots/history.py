"""A metric over a series of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_modellens.report.plots.plot import Plot
from pytest_modellens.report.plots.series import label
from pytest_modellens.report.plots.style import axis_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure, SubFigure

    from pytest_modellens.report.plots.series import Estimate
    from pytest_modellens.report.plots.style import Theme

__all__ = ["history"]


def history(
    name: str, runs: Sequence[Estimate], *, what: str, unit: str, changes: Sequence[int] = (), of: str = ""
) -> Plot:
    """Return the metric run after run, with intervals; `changes` are the runs from which on it differs.

    `of` is what was measured, for the title.
    """

    def draw(figure: Figure | SubFigure, theme: Theme) -> None:
        axes = figure.subplots()
        figure.subplots_adjust(left=0.11, right=0.97, top=0.88, bottom=0.17)
        for change in changes:
            axes.axvline(change - 0.5, color=theme.bad, linewidth=1.2, linestyle=(0, (4, 3)))
        for at, run in enumerate(runs):
            if run.low is not None and run.high is not None:
                axes.plot([at, at], [run.low, run.high], color=theme.series[0], linewidth=1.6)
        axes.plot([run.value for run in runs], "o-", color=theme.series[0], linewidth=1, markersize=5)
        axes.set_ylim(*_ends(runs))
        axis_labels(axes, "run", f"{what}, {unit}")
        step = max(1, len(runs) // 6)
        axes.set_xticks(range(0, len(runs), step), [label(run.label, 12) for run in runs[::step]])

    facts = "; ".join(f"{label(run.label)}: {run.value:.4g}" for run in runs)
    change = f" It changes at {', '.join(label(runs[at].label) for at in changes)}." if changes else ""
    return Plot(name, f"{of}: {what}" if of else f"{what} over runs", f"{facts} {unit}.{change}", draw)


def _ends(runs: Sequence[Estimate]) -> tuple[float, float]:
    """Return the ends of the axis: a change of some per cent is to be seen, and noise not to look like one."""
    ends = [end for run in runs for end in (run.low, run.high, run.value) if end is not None]
    middle = (min(ends) + max(ends)) / 2
    reach = max(0.55 * (max(ends) - min(ends)), 0.1 * middle)
    return max(0.0, middle - reach), middle + reach
