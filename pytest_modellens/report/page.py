"""The report: one HTML file that needs nothing else, neither a network nor a server."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from typing import TYPE_CHECKING, Any

from pytest_modellens.errors import MissingExtraError, StorageError
from pytest_modellens.gate.session import case_key
from pytest_modellens.report import charts
from pytest_modellens.report.answers import Answer, answers_of, failures_of
from pytest_modellens.report.banner import banner
from pytest_modellens.report.bounded import bounded_cases
from pytest_modellens.report.cells import KEPT
from pytest_modellens.report.columns import METRICS
from pytest_modellens.report.comparison import comparisons
from pytest_modellens.report.facts import about, client_and_server, notes, run_notes, subject
from pytest_modellens.report.gated import gated_cases
from pytest_modellens.report.pairs import pairs
from pytest_modellens.report.series import CellOf, cells_of, short_names
from pytest_modellens.report.table import short
from pytest_modellens.storage.whole import write_whole
from pytest_modellens.text import printable, printable_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pytest_modellens.report.plots.plot import Plot
    from pytest_modellens.report.source import ReportRun
    from pytest_modellens.report.summary import Distribution

__all__ = ["BUDGET", "page", "write_page"]

BUDGET = 1_400_000
"""Bytes of plots that one page holds; the cells after that have none, and the page says so."""


@dataclass(frozen=True)
class _Case:
    """One case of the page, with its cell of every series."""

    anchor: str
    suite: str
    name: str
    cells: list[CellOf]
    plots: list[tuple[str, str]]
    """Captions and SVG."""
    plots_left_out: bool

    @property
    def asked(self) -> Mapping[str, Any]:
        return next((asked for cell in self.cells if (asked := cell.run.asked(cell.summary.key))), {})

    @property
    def level(self) -> str:
        levels = {cell.level for cell in self.cells}
        return next(level for level in ("bad", "unsure", "good") if level in levels)

    def notes(self, cell: CellOf) -> list[str]:
        return notes(cell)

    def server(self, cell: CellOf) -> list[tuple[str, str, str]]:
        return client_and_server(cell)

    def answers(self, cell: CellOf) -> list[Answer]:
        return answers_of(cell.data)

    def failures(self, cell: CellOf) -> list[str]:
        why = cell.run.failed(cell.summary.key)
        return [*([why] if why else ()), *failures_of(cell.data)]


def page(
    runs: Sequence[ReportRun],
    *,
    now: datetime | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> str:
    """Return the HTML of a report on one run, or of a comparison of several; the first is what others are held against.

    Args:
        runs: what to show.
        now: when the report is made.
        on_progress: is told what goes on.

    Raises:
        MissingExtraError: Jinja2 or matplotlib is not installed.
    """
    cells = cells_of(runs)
    found = comparisons(cells)
    cases = _cases(cells, on_progress)
    style, script = _asset("page.css"), _asset("page.js")
    html: str = _template().render(
        title=_title(runs),
        style=style,
        script=script,
        policy=_policy(style, script),
        made_at=(now or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC"),
        verdicts=banner(runs, cells, found),
        gates=_by_run(runs, gated_cases),
        bounds=_by_run(runs, bounded_cases),
        called=_called(cells),
        subject=subject(runs),
        facts=[(run, about(run)) for run in runs],
        pairs=[
            (pair, [_drawn(plot) for one in pair.comparisons if (plot := charts.comparison_plot(one))])
            for pair in pairs(found)
        ],
        overview=[_drawn(plot) for plot in charts.overview_plots(cells)],
        loads=[cell for cell in cells if cell.summary.load],
        load_plots=[_drawn(plot) for plot in charts.load_plots(cells)],
        cells=cells,
        cases=cases,
        anchors={(cell.run.name, cell.summary.key): case.anchor for case in cases for cell in case.cells},
        hardware=[(name, _drawn(plot)) for name, plot in charts.run_plots(runs)],
        fastest=max((_most(cell.summary.tokens_per_second) for cell in cells), default=0.0),
        notes=run_notes(runs),
        metrics=METRICS,
        has_several=len({cell.series.number for cell in cells}) > 1,
        has_suites=len({cell.summary.key.suite for cell in cells}) > 1,
        kept=KEPT,
        is_large=any(cell.summary.n_averaged > KEPT for cell in cells),
    )
    return html


def write_page(path: Path, html: str) -> None:
    """Write the report to `path`, as a whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, html.encode("utf-8", "replace"))
    except OSError as exc:
        how = "choose another file with --modellens-report, or -o of modellens report"
        raise StorageError(f"{path}: the report cannot be written ({exc.strerror}; {how})") from exc


def _most(distribution: Distribution) -> float:
    """Return the largest number that is shown of a distribution."""
    return distribution.interval.high if distribution.interval else distribution.p50 or 0.0


def _title(runs: Sequence[ReportRun]) -> str:
    return printable(runs[0].name) if len(runs) == 1 else f"{len(runs)} runs compared"


def _by_run(runs: Sequence[ReportRun], rows_of: Callable[[ReportRun], list[Any]]) -> list[tuple[str, list[Any]]]:
    """Return what there is of each run, with the run's name."""
    return [(name, rows) for name, run in zip(short_names(runs), runs, strict=True) if (rows := rows_of(run))]


def _called(cells: Sequence[CellOf]) -> dict[str, str]:
    """Return what to call the cases that gates name by their keys."""
    several = len({cell.summary.key.provider for cell in cells}) > 1
    return {
        printable(case_key({**cell.summary.key._asdict(), "params": cell.summary.params})): f"{cell.name} · "
        f"{printable(cell.summary.key.provider)}"
        if several
        else cell.name
        for cell in cells
    }


def _cases(cells: Sequence[CellOf], on_progress: Callable[[str], None]) -> list[_Case]:
    groups: dict[tuple[str, str, str], list[CellOf]] = {}
    for cell in cells:
        groups.setdefault(cell.place, []).append(cell)
    cases: list[_Case] = []
    spent = 0
    for number, group in enumerate(groups.values()):
        on_progress(f"report: case {number + 1} of {len(groups)}")
        plots = [_drawn(plot) for plot in charts.case_plots(f"c{number}", group)] if spent < BUDGET else []
        left_out = spent >= BUDGET
        spent += sum(len(svg) for _, svg in plots)
        cases.append(_Case(f"case-{number}", group[0].summary.key.suite, group[0].name, group, plots, left_out))
    return cases


def _drawn(plot: Plot) -> tuple[str, str]:
    return printable(plot.title), plot.inline()


def _template() -> Any:
    try:
        import jinja2
    except ImportError as exc:
        raise MissingExtraError("the report needs Jinja2, which is not installed (pip install Jinja2)") from exc
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"short": short, "plain": _plain, "line": printable, "bar": _bar}
    return environment.get_template("page.html")


def _asset(name: str) -> str:
    return (resources.files(__package__) / "templates" / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Return a Content-Security-Policy that lets run and load nothing but what the page came with."""

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    return (
        f"default-src 'none'; style-src 'sha256-{digest(style)}'; script-src 'sha256-{digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _plain(text: Any, limit: int = 4000) -> str:
    """Return text of several lines without characters that steer, hide or reorder."""
    return printable_lines(str(text), limit)


def _bar(value: float | None, whole: float, width: int = 100) -> str:
    """Return a length of a bar, from 0 to `width`."""
    return "0" if value is None or whole <= 0 else f"{max(0.0, min(1.0, value / whole)) * width:.1f}"
