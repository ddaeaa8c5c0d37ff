"""`modellens history`: what runs measured, run after run, and where it changed."""

from __future__ import annotations

import argparse
import re
import shutil
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_modellens.commandline import add_results, count, formats, progress
from pytest_modellens.errors import ConfigError, MissingExtraError, StorageError
from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_modellens.history.changes import Change
    from pytest_modellens.history.series import Series

    Found = list[tuple[Series, list[Change]]]

__all__ = ["add_history"]

_METRICS = ("tokens_per_second", "ttft_ms")
_KNOWN = ("tokens_per_second", "e2e_tokens_per_second", "ttft_ms", "ttfo_ms", "tpot_ms", "total_time_ms")
_CASE = re.compile(r"(?P<suite>.*?)::(?P<case>.*) \((?P<provider>[^()]*)\)", re.DOTALL)


def add_history(commands: Any) -> None:
    """Add the command to the parser's `commands`."""
    parser = commands.add_parser("history", help="show metrics over all runs, and from which commit on they changed")
    parser.add_argument(
        "--metric",
        action="append",
        type=_metric,
        metavar="METRIC",
        help="repeatable (default: tokens_per_second and ttft_ms)",
    )
    for name in ("suite", "case", "provider", "model"):
        parser.add_argument(
            f"--{name}", metavar="TEXT", help=f"only where the {name} holds this text, or is like it with * and ?"
        )
    parser.add_argument("--last", type=count, metavar="N", help="only the newest N runs (default: all)")
    parser.add_argument("--runs", action="store_true", help="show every run, not only the first and the last")
    parser.add_argument("--plots", type=formats, default=(), metavar="FORMATS", help="png, svg or png,svg")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="where plots go (default: history in the results folder)"
    )
    parser.add_argument("--theme", choices=("light", "dark"), default="light", help="of plots (default: light)")
    add_results(parser)
    parser.set_defaults(command=_history)


def _history(options: argparse.Namespace) -> int:
    from pytest_modellens.gate.calibrations import read_calibrations
    from pytest_modellens.history.anchors import anchor_lines
    from pytest_modellens.history.series import read_sources, series_of
    from pytest_modellens.history.table import change_lines, history_lines
    from pytest_modellens.report.lines import folded, room_in
    from pytest_modellens.storage import list_runs

    folders = [run.folder for run in list_runs(options.results)][: options.last][::-1]
    if not folders:
        print(f"no runs in {options.results} (make one: pytest --provider local suites/)")
        return 0
    with progress() as say:
        sources, problems = read_sources(folders, say=say)
        cases = {case: str(of.get("model")) for source in sources for case, of in source.session.cases.items()}
        wanted = series_of(sources, options.metric or _METRICS, _filter(options))
    if not wanted:
        raise ConfigError(f"history: nothing that was asked for in {len(folders)} runs ({_what_there_is(cases)})")
    found, note = _with_changes(wanted, read_calibrations(options.results))
    width = shutil.get_terminal_size().columns
    lines = history_lines(found, width=width, every_run=options.runs)
    lines += change_lines(found, width=width, is_searched=not note)
    lines += anchor_lines(options.results, found, width=width)
    for text in (*note, *problems):
        lines += folded(f"note: {printable(text, limit=500)}", room_in(width), then="  ")
    print("\n".join(lines))
    if options.plots:
        print(_write_plots(found, options))
    return 0


def _with_changes(wanted: Sequence[Series], calibrations: Any) -> tuple[Found, list[str]]:
    """Return the series with their changes; without ruptures with none, and what to do about it."""
    from pytest_modellens.gate.calibration import Calibration
    from pytest_modellens.gate.calibrations import known_for
    from pytest_modellens.history.changes import changes_of

    found: Found = []
    note: list[str] = []
    for series in wanted:
        known = known_for(calibrations, series.machine, [series.metric])
        try:
            found.append((series, changes_of(series, known.calibration if known else Calibration())))
        except MissingExtraError as exc:
            found.append((series, []))
            note = [str(exc)]
    return found, note


def _filter(options: argparse.Namespace) -> Callable[[str, str], bool]:
    def is_wanted(case: str, model: str) -> bool:
        match = _CASE.fullmatch(case)
        parts = {**(match.groupdict() if match else {}), "model": model}
        return all(_is_like(parts.get(name, case), getattr(options, name)) for name in (*parts, "suite"))

    return is_wanted


def _is_like(text: str, pattern: str | None) -> bool:
    if pattern is None:
        return True
    return fnmatchcase(text, pattern) if {*pattern} & {*"*?["} else pattern in text


def _what_there_is(cases: dict[str, str]) -> str:
    from pytest_modellens.gate.frames import some

    return f"there are {printable(some(sorted(cases)), 400)}" if cases else "they measured nothing"


def _write_plots(found: Found, options: argparse.Namespace) -> str:
    from pytest_modellens.history.drawing import plot_of

    folder = options.output or options.results / "history"
    count = 0
    path = folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, (series, changes) in enumerate(found, start=1):
            plot = plot_of(series, changes, number=number)
            for kind in options.plots:
                path = folder / f"{plot.name}.{kind}"
                path.write_bytes(plot.image(kind, options.theme))
                count += 1
    except OSError as exc:
        raise StorageError(f"{path}: cannot be written ({exc.strerror})") from exc
    return f"plots: {count} in {folder}"


def _metric(text: str) -> str:
    if text not in _KNOWN:
        close = get_close_matches(text, _KNOWN, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"{', '.join(_KNOWN)} exist"
        raise argparse.ArgumentTypeError(f"unknown metric {text!r} ({hint})")
    return text
