"""What the terminal shows when a run ends: tables, how configurations compare, where files are, what to type next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_modellens.plugin.cassette import sentences
from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from pytest_modellens.report.cell_key import CellKey
    from pytest_modellens.report.lines import Line
    from pytest_modellens.report.source import ReportRun

__all__ = ["ending"]

_LONGEST = 2000
_STYLES = {"good": "green", "bad": "red", "unsure": ""}


def ending(
    run: ReportRun,
    *,
    failed: Collection[CellKey],
    problems: Sequence[str],
    files: Mapping[str, Path],
    earlier: str | None,
    start: Path,
    width: int,
) -> Iterator[Line]:
    """Yield the lines.

    Args:
        run: what was measured.
        failed: cells whose test did not pass.
        problems: what could not be written.
        files: what was written, by kind.
        earlier: a run before this one, of the same suite.
        start: the folder that paths are shown relative to.
        width: columns of the terminal.
    """
    from pytest_modellens.report.gated import changes_of
    from pytest_modellens.report.lines import Line
    from pytest_modellens.report.load_table import load_table
    from pytest_modellens.report.server_table import server_table
    from pytest_modellens.report.source import loads_of
    from pytest_modellens.report.table import tables, worst

    assert run.folder is not None
    yield from tables(run.summaries, failed=failed, changes=changes_of(run.meta), width=width)
    yield from worst(run.summaries)
    loads = loads_of(run.meta)
    yield from load_table(loads, width=width)
    yield from server_table(loads, width=width)
    yield from _compared(run)
    if run.costs.line:
        yield Line(run.costs.line)
    for problem in problems:
        yield Line(printable(problem, _LONGEST), "red")
    name = printable(run.name)
    yield Line(f"results: {_relative(run.folder, start)}")
    for kind, path in files.items():
        yield Line(f"{kind}: {_relative(path, start)}")
    yield Line(f"look at them again: modellens show {name}")
    cassette: dict[str, Any] | None = run.meta.get("cassette")
    if cassette is not None:
        shown = _relative(Path(cassette["folder"]), start)
        for text, is_bad in sentences(cassette, shown=shown, run=name):
            yield Line(text, "red" if is_bad else "")
    if earlier is not None:
        yield Line("compare them with the run before:")
        yield Line(f"  modellens report {printable(earlier)} {name}")


def _compared(run: ReportRun) -> Iterator[Line]:
    """Yield how the configurations of the run compare, where there are several."""
    from pytest_modellens.report.lines import MIN_WIDTH, Line, folded
    from pytest_modellens.report.series import cells_of

    cells = cells_of([run])
    if len({cell.series.number for cell in cells}) < 2:
        return
    from pytest_modellens.report.comparison import comparisons
    from pytest_modellens.report.decision import decisions

    for verdict in decisions(comparisons(cells), cells):
        yield from (Line(line, _STYLES[verdict.level]) for line in folded(printable(verdict.title), MIN_WIDTH - 1))
        for sentence in verdict.sentences:
            yield from map(Line, folded(printable(sentence, _LONGEST), MIN_WIDTH - 1, indent="  "))
        yield Line("")


def _relative(path: Path, folder: Path) -> str:
    shown = path.relative_to(folder) if path.is_relative_to(folder) else path
    return printable(str(shown), _LONGEST)
