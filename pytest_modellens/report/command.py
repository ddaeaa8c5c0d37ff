"""What `modellens report` does: reports on runs that were recorded before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_modellens.report.files import write_csv, write_plots
from pytest_modellens.report.outline import markdown, write_json
from pytest_modellens.report.page import page, write_page
from pytest_modellens.report.source import read
from pytest_modellens.storage.requests import Requests

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pytest_modellens.report.source import ReportRun

__all__ = ["report"]


def report(
    folders: Sequence[Path],
    *,
    output: Path | None = None,
    plots: Sequence[str] = (),
    themes: Sequence[str] = ("light",),
    as_csv: bool = False,
    json: Path | None = None,
    as_markdown: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Write a report on the runs in `folders` and return the lines that say what there is now.

    Args:
        folders: of the runs; with several, the first is what others are held against.
        output: the HTML file; None is report.html in the run's folder, or comparison.html in the first run's.
        plots: formats of plots to write beside it.
        themes: of these plots, "light" and "dark".
        as_csv: whether to write the CSV files of each run again.
        json: where to write a summary of the first run, with the verdicts on all.
        as_markdown: whether to return a summary as Markdown, too.
        say: is told what goes on.

    Raises:
        StorageError: a run cannot be read, or a file cannot be written.
        MissingExtraError: matplotlib or Jinja2 is not installed.
    """
    runs = [_read(folder, say) for folder in folders]
    target = output or folders[0] / ("report.html" if len(runs) == 1 else "comparison.html")
    lines = []
    # First what needs no plots, so that it is there even where these cannot be made.
    for folder, run in zip(folders, runs, strict=True) if as_csv else ():
        say(f"CSV of {run.name}")
        write_csv(folder, run, Requests(folder))
        lines.append(f"CSV: {folder}")
    if json is not None:
        write_json(json, runs)
        lines.append(f"JSON: {json}")
    write_page(target, page(runs, on_progress=say))
    lines.append(f"report: {target}")
    if plots:
        say("plots")
        count = write_plots(target.parent / "plots", runs, formats=plots, themes=themes)
        lines.append(f"plots: {target.parent / 'plots'} ({count} files)")
    lines += dict.fromkeys(f"note: {note}" for run in runs for note in run.notes)
    if as_markdown:
        lines.append(markdown(runs))
    return lines


def _read(folder: Path, say: Callable[[str], None]) -> ReportRun:
    return read(folder, on_progress=lambda count: say(f"reading {folder.name}: {count:,} requests"))
