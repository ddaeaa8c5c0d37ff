"""What is written when a run ends: CSV, the report, and what continuous integration reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_modellens.errors import MissingExtraError, StorageError
from pytest_modellens.report.files import write_csv, write_plots
from pytest_modellens.report.outline import append_markdown, write_json
from pytest_modellens.report.page import page, write_page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pytest_modellens.plugin.options import Settings
    from pytest_modellens.report.source import ReportRun
    from pytest_modellens.storage.requests import Requests

__all__ = ["Written", "write_reports"]

_OFF = {"off", "none", "no", "false", "0"}


class Written:
    """What came of it."""

    def __init__(self) -> None:
        self.files: dict[str, Path] = {}
        """By kind: "report", "plots", "JSON"."""
        self.problems: list[str] = []


def write_reports(
    run: ReportRun,
    settings: Settings,
    records: Requests | Iterable[Mapping[str, Any]],
    *,
    start: Path,
    say: Callable[[str], None] = lambda _: None,
) -> Written:
    """Write everything that was asked for; what cannot be written is told in the result, and the rest is written.

    Args:
        run: what is to be shown; it has a folder.
        settings: what was asked for.
        records: all of it, to be gone through several times.
        start: the folder that paths of the command line are relative to.
        say: is told what goes on.
    """
    written = Written()
    folder = run.folder
    assert folder is not None
    say("writing CSV")
    _try(written, lambda: write_csv(folder, run, records))
    if settings.json is not None:
        target = start / settings.json
        _try(written, lambda: write_json(target, [run]), kind="JSON", path=target)
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        _try(written, lambda: append_markdown(Path(summary), run))
    if (settings.report or "").lower() not in _OFF:
        target = start / settings.report if settings.report else folder / "report.html"
        say("writing the report")
        _try(written, lambda: _write_page(target, run, say), kind="report", path=target)
    if settings.plots:
        formats = settings.plots
        say("drawing plots")
        _try(
            written,
            lambda: write_plots(folder / "plots", [run], formats=formats, themes=("light", "dark")),
            kind="plots",
            path=folder / "plots",
        )
    return written


def _write_page(target: Path, run: ReportRun, say: Callable[[str], None]) -> None:
    write_page(target, page([run], on_progress=say))


def _try(written: Written, write: Callable[[], Any], *, kind: str = "", path: Path | None = None) -> None:
    try:
        write()
    except (StorageError, MissingExtraError) as exc:
        written.problems.append(str(exc))
    else:
        if path is not None:
            written.files[kind] = path
