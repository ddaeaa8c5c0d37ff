"""The `modellens` command: the embedded model, runs, servers that answer, the suite schema, the tool's own check."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import time
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from pytest_modellens import __version__
from pytest_modellens.bridge.commands import add_amplifier_commands
from pytest_modellens.commandline import add_results, formats, progress
from pytest_modellens.errors import ModelLensError
from pytest_modellens.text import Seen, printable, printable_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_modellens.providers.base import ProviderAdapter
    from pytest_modellens.providers.discovery import Search
    from pytest_modellens.report.providers_table import ProviderRow
    from pytest_modellens.report.summary import CellSummary
    from pytest_modellens.storage import RunInfo

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, 1 for a failure, 2 for wrong usage."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that knows no "✓" still gets its table
    try:
        # Names of files, runs and servers are in every line that a command writes.
        with contextlib.redirect_stdout(cast("TextIO", Seen(sys.stdout))):
            status = command(options)
        sys.stdout.flush()
        return status
    except ModelLensError as exc:
        print(f"modellens: {printable_lines(str(exc))}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # `modellens list | head`: nobody reads any more, which is no failure. Python flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    finally:
        # The Rust engine of Amplifier's kernel can crash when Python ends while its threads let go of what they hold.
        if "amplifier_core._engine" in sys.modules:
            time.sleep(0.05)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="modellens", description="Runs and models of pytest-modellens. Suites are run by pytest itself."
    )
    parser.add_argument("--version", action="version", version=f"modellens {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    fetch = commands.add_parser("fetch", help="download the small model that --provider local serves")
    fetch.add_argument("--force", action="store_true", help="download it again even if it is there")
    fetch.set_defaults(command=_fetch)

    runs = commands.add_parser("list", help="list the runs in the results folder")
    add_results(runs)
    runs.set_defaults(command=_list)

    show = commands.add_parser("show", help="show the tables of one run")
    show.add_argument("run", nargs="?", default="latest", help="name, part of a name, path, or latest (default)")
    add_results(show)
    show.set_defaults(command=_show)

    providers = commands.add_parser("providers", help="look for servers: which answer, where, and with which models")
    providers.add_argument("url", nargs="?", help="look only here, or describe amplifier:MODULE[=URL]")
    providers.add_argument("--plan", type=Path, metavar="FILE", help="what to mount amplifier:MODULE with")
    providers.set_defaults(command=_providers)
    report = commands.add_parser("report", help="write the HTML report of one run, or a comparison of several")
    report.add_argument("runs", nargs="*", default=["latest"], metavar="RUN", help="as for show; the first is the base")
    report.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="HTML file (default: in the first run's folder)"
    )
    report.add_argument(
        "--plots", type=formats, default=(), metavar="FORMATS", help="write plots too: png, svg or png,svg"
    )
    report.add_argument("--theme", choices=("light", "dark", "both"), default="light", help="of plots (default: light)")
    report.add_argument("--csv", action="store_true", help="write the CSV files of each run again")
    report.add_argument("--json", type=Path, metavar="FILE", help="write a summary of the first run as JSON")
    report.add_argument("--markdown", action="store_true", help="print a summary as Markdown")
    add_results(report)
    report.set_defaults(command=_report)
    again = commands.add_parser("recompute", help="derive the records of a run again from its cassette")
    again.add_argument("run", help="name, part of a name, path, or latest")
    again.add_argument(
        "--cassette", type=Path, metavar="DIR", help="where the raw bytes are (default: where the run kept them)"
    )
    add_results(again)
    again.set_defaults(command=_recompute)

    amplifier = commands.add_parser("amplifier", help="mount plans for Amplifier, and a judge of its provider modules")
    add_amplifier_commands(amplifier)

    schema = commands.add_parser("schema", help="print the JSON Schema of suite files, for editors")
    schema.set_defaults(command=_schema)

    check = commands.add_parser("selfcheck", help="check how exactly this machine measures, and up to which load")
    loads = check.add_mutually_exclusive_group()
    loads.add_argument(
        "--levels", type=_levels, metavar="N,N,…", help="concurrent streams to try, rising (default: 1,4,16,64,256)"
    )
    loads.add_argument("--quick", action="store_true", help="try only the lowest three loads")
    check.set_defaults(command=_selfcheck)

    from pytest_modellens.gate.commands import add_commands
    from pytest_modellens.history.command import add_history
    from pytest_modellens.report.export_command import add_export

    add_commands(commands)
    add_history(commands)
    add_export(commands)

    truth = commands.add_parser("truth", help="serve scripted answers whose send times are known")
    truth.add_argument("--port", default="0", metavar="N", help="port of 127.0.0.1 (default: a free one)")
    truth.add_argument("--list", action="store_true", help="list its scenarios and end")
    truth.set_defaults(command=_truth)
    return parser


def _levels(text: str) -> list[int]:
    numbers = [int(part) if part.isascii() and part.isdigit() else 0 for part in text.split(",")]
    if min(numbers) < 1 or numbers != sorted(set(numbers)):
        raise argparse.ArgumentTypeError(f"must be rising whole numbers from 1 on, such as 1,4,16 (got {text!r})")
    return numbers


def _fetch(options: argparse.Namespace) -> int:
    from pytest_modellens.embedded.fetch import fetch

    fetch(force=options.force)
    return 0


def _list(options: argparse.Namespace) -> int:
    from pytest_modellens.storage import list_runs

    runs = list_runs(options.results)
    if not runs:
        print(f"no runs in {options.results} (make one: pytest --provider local suites/)")
        return 0
    width = max(len(run.name) for run in runs)
    print(f"{'run':{width}}  requests  errors  state")
    for run in runs:
        print(f"{run.name:{width}}  {run.requests:8}  {run.errors or '–':>6}  {_state(run)}")
    return 0


def _state(run: RunInfo) -> str:
    return "complete" if run.is_finished else "cut off, or still running"


def _show(options: argparse.Namespace) -> int:
    import shutil

    from pytest_modellens.report.gated import changes_of
    from pytest_modellens.report.load_table import load_table
    from pytest_modellens.report.server_table import server_table
    from pytest_modellens.report.source import loads_of, read
    from pytest_modellens.report.table import tables
    from pytest_modellens.storage import find_run

    folder = find_run(options.results, options.run)
    run = read(folder)
    print(printable(folder.name))
    for fact in _about(run.meta):
        print(fact)
    print()
    failed = {cell.key for cell in run.summaries if _is_flawed(cell)}
    width = shutil.get_terminal_size().columns
    loads = loads_of(run.meta)
    table = tables(run.summaries, failed=failed, changes=changes_of(run.meta), width=width)
    shown = (table, load_table(loads, width=width))
    for line in chain(*shown, server_table(loads, width=width)):
        print(line.text)
    if run.costs.line:
        print(run.costs.line)
    if not run.summaries:
        print("no measured requests")
    if not run.is_finished:
        print("note: the run was cut off, or is still running")
    for problem in run.problems:
        print(f"note: {problem}")
    return 0


def _report(options: argparse.Namespace) -> int:
    from pytest_modellens.report.command import report
    from pytest_modellens.storage import find_run

    folders = [*dict.fromkeys(find_run(options.results, run) for run in options.runs)]
    with progress() as say:
        lines = report(
            folders,
            output=options.output,
            plots=options.plots,
            themes=("light", "dark") if options.theme == "both" else (options.theme,),
            as_csv=options.csv,
            json=options.json,
            as_markdown=options.markdown,
            say=say,
        )
    print("\n".join(lines))
    return 0


def _is_flawed(cell: CellSummary) -> bool:
    return bool(cell.n_errors or cell.n_warmup_failed or cell.n_expect_failed or cell.n_invalid)


def _about(meta: Mapping[str, object]) -> list[str]:
    """Return what was measured on what, as far as run.json says."""
    environment = meta.get("environment")
    machine = environment.get("machine") if isinstance(environment, dict) else None
    lines = []
    if isinstance(machine, dict):
        facts = [machine.get("cpu_model"), f"{machine.get('cores_usable') or machine.get('cores_logical')} cores"]
        lines.append("  on    " + printable(", ".join(str(fact) for fact in facts if fact), limit=200))
    servers = meta.get("servers")
    for label, server in servers.items() if isinstance(servers, dict) else ():
        if not isinstance(server, dict):
            continue
        version = f" {server.get('version')}" if server.get("version") else ""
        lines.append("  from  " + printable(f"{label}{version} at {server.get('base_url', 'its own address')}"))
    return lines


def _providers(options: argparse.Namespace) -> int:
    import shutil

    from pytest_modellens.providers.discovery import find_servers, probed_classes
    from pytest_modellens.providers.registry import AMPLIFIER, is_amplifier
    from pytest_modellens.report.providers_table import ProviderRow, providers_table, row_of, why_none
    from pytest_modellens.urls import normalize_base_url

    if options.url and is_amplifier(options.url):
        from pytest_modellens.bridge.portrait import portrait

        print("\n".join(portrait(options.url.removeprefix(AMPLIFIER), plan=options.plan)))
        return 0
    search = find_servers(normalize_base_url(options.url) if options.url else None)
    rows = [row_of(server) for server in search.found]
    if not options.url:
        found = {server.name for server in search.found}
        rows += [
            ProviderRow(cls.name, "–", f"http://127.0.0.1:{cls.default_port}", note=_unless_silent(search, cls))
            for cls in probed_classes()
            if cls.name not in found
        ]
        rows += [_local_row(), ProviderRow("openai", "–", "", note="must be asked for: --provider openai=URL")]
    print("\n".join(providers_table(rows, width=shutil.get_terminal_size().columns)) if rows else why_none(search))
    for broken in search.broken:
        print(f"note: {broken}")
    return 0 if rows else 1


def _unless_silent(search: Search, cls: type[ProviderAdapter]) -> str:
    """Return what is at the usual address of a provider that was not found; empty when nothing listens there."""
    reason = search.missed.get(f"http://127.0.0.1:{cls.default_port}", "nothing listens")
    return "" if reason == "nothing listens" else reason


def _local_row() -> ProviderRow:
    from importlib.metadata import PackageNotFoundError, version

    from pytest_modellens.embedded.weights import find_weights
    from pytest_modellens.report.providers_table import ProviderRow

    try:
        weights, installed = find_weights(), version("xllamacpp")
    except ModelLensError as exc:
        return ProviderRow("local", "–", "", note=str(exc))
    except PackageNotFoundError:
        return ProviderRow("local", "–", "", note="not installed: pip install 'pytest-modellens[local]'")
    return ProviderRow("local", "ready", "(a child process)", installed, (weights.name,))


def _recompute(options: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from pytest_modellens.recompute.differences import table
    from pytest_modellens.recompute.run import recompute
    from pytest_modellens.storage import find_run

    folder = find_run(options.results, options.run)
    with progress() as say:

        def on_progress(done: int, of: int) -> None:
            if done % 100 == 0:
                say(f"{done} of {of} requests decoded")

        made = recompute(folder, cassette=options.cassette, now=datetime.now(UTC), on_progress=on_progress)
    before, now = made.definitions
    versions = f"metric definitions {now}" if before == now else f"metric definitions {before} → {now}"
    print(f"{printable(folder.name)}: {made.derived} records derived again ({versions})")
    if made.rescued:
        print(f"of these, {made.rescued} had no record before (the run was cut off)")
    if made.carried_over:
        print(f"{made.carried_over} records have no raw bytes; carried over as they were")
    for found, what in ((made.requests, "requests"), (made.loads, "loads")):
        if found:
            print("", *table(found, what=what), sep="\n")
    if not (made.requests or made.loads):
        print("nothing differs")
    for problem in made.problems:
        print(f"note: {printable(problem, 400)}")
    print(f"\nresults: {made.folder}")
    return 0


def _schema(_: argparse.Namespace) -> int:
    import json

    from pytest_modellens.suite.schema import json_schema

    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
    return 0


def _selfcheck(options: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from pytest_modellens.environment import fingerprint
    from pytest_modellens.selfcheck.check import LEVELS, QUICK_LEVELS, selfcheck
    from pytest_modellens.selfcheck.floor import keep_floor
    from pytest_modellens.selfcheck.table import table

    levels = options.levels or (QUICK_LEVELS if options.quick else LEVELS)
    with progress() as say:
        check = selfcheck(levels=levels, on_progress=say)
    print("\n".join(table(check)))
    kept = keep_floor(check, machine=fingerprint(), now=datetime.now(UTC))
    print(f"kept for later runs: {kept}")
    return 0 if check.is_good else 1


def _truth(options: argparse.Namespace) -> int:
    from pytest_modellens.truth.__main__ import main as serve

    serve([f"--port={options.port}", *["--list"] * options.list])
    return 0


if __name__ == "__main__":
    sys.exit(main())
