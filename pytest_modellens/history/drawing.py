"""A series as a plot."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_modellens.report.plots.history import history
from pytest_modellens.report.plots.series import Estimate, label
from pytest_modellens.suite.limits import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_modellens.history.changes import Change
    from pytest_modellens.history.series import Series
    from pytest_modellens.report.plots.plot import Plot

__all__ = ["plot_of"]


def plot_of(series: Series, changes: Sequence[Change], *, number: int) -> Plot:
    """Return the plot of a series, called by its number, metric and case."""
    runs = [Estimate(_when(point.run), point.median, point.low, point.high) for point in series.points]
    what, _, unit = METRICS[series.metric].description.partition(", ")
    case = series.case.rpartition("::")[2]
    name = re.sub(r"[^a-z0-9]+", "-", f"{series.metric}-{case}".lower()).strip("-")[:60]
    return history(
        f"{number:02}-{name}",
        runs,
        what=what,
        unit=unit,
        changes=[change.at for change in changes],
        of=f"{label(case, 30)}, {label(series.model, 20)}",
    )


def _when(run: str) -> str:
    """Return month and day of a run's name, `20261122T041811Z-nightly`."""
    return f"{run[4:6]}-{run[6:8]}" if re.match(r"\d{8}T\d{6}Z-", run) else run
