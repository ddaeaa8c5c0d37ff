"""Everything that is made of a run, each file by itself: what cannot be written is told, and the rest is."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from pytest_modellens.errors import StorageError
from pytest_modellens.report import charts, csv
from pytest_modellens.report.series import cells_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from pytest_modellens.report.plots.plot import Plot
    from pytest_modellens.report.series import CellOf
    from pytest_modellens.report.source import ReportRun
    from pytest_modellens.storage.requests import Requests

__all__ = ["FORMATS", "write_csv", "write_plots"]

FORMATS = ("png", "svg")


def write_csv(folder: Path, run: ReportRun, records: Requests | Iterable[Mapping[str, Any]]) -> None:
    """Write all CSV files into `folder`; `records` is gone through twice.

    Raises:
        StorageError: one cannot be written; the others were tried.
    """
    problems = []
    steps: tuple[Callable[[], None], ...] = (
        lambda: csv.write_requests_csv(folder, records),
        lambda: csv.write_summary_csv(folder, run.summaries),
        lambda: csv.write_hardware_csv(folder, run.hardware),
        lambda: csv.write_timeline_csv(folder, records),
        # Most servers tell nothing of themselves.
        *((lambda: csv.write_server_csv(folder, run.server),) if run.server else ()),
    )
    for step in steps:
        try:
            step()
        except StorageError as exc:
            problems.append(str(exc))
    if problems:
        raise StorageError("; ".join(problems))


def write_plots(folder: Path, runs: Sequence[ReportRun], *, formats: Iterable[str], themes: Iterable[str]) -> int:
    """Write every plot of a report on `runs` into `folder` and return how many files there are.

    A file is called `<plot>-<theme>.<format>`, without the theme when there is only one.

    Raises:
        StorageError: one cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    cells = cells_of(runs)
    by_place: dict[tuple[str, str, str], list[CellOf]] = {}
    for cell in cells:
        by_place.setdefault(cell.place, []).append(cell)
    plots: Iterable[Plot] = chain(
        charts.overview_plots(cells),
        charts.load_plots(cells),
        charts.comparison_plots(cells),
        (plot for _, plot in charts.run_plots(runs)),
        *(charts.case_plots(f"case-{number}", group) for number, group in enumerate(by_place.values())),
    )
    wanted = [(kind, theme) for kind in formats for theme in themes]
    has_themes = len({theme for _, theme in wanted}) > 1
    count = 0
    path = folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for plot in plots:
            for kind, theme in wanted:
                path = folder / (f"{plot.name}-{theme}.{kind}" if has_themes else f"{plot.name}.{kind}")
                path.write_bytes(plot.image(kind, theme))
                count += 1
    except OSError as exc:
        raise StorageError(f"{path}: cannot be written ({exc.strerror})") from exc
    return count
