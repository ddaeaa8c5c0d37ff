"""`modellens export`: a recorded run in the formats of other tools."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_modellens.commandline import add_results

if TYPE_CHECKING:
    import argparse

__all__ = ["add_export"]

_FORMATS = ("bencher", "customBiggerIsBetter", "customSmallerIsBetter", "pytest-benchmark")


def add_export(commands: Any) -> None:
    """Add it to the parser's `commands`."""
    parser = commands.add_parser("export", help="write a run for Bencher, github-action-benchmark or pytest-benchmark")
    parser.add_argument("run", nargs="?", default="latest", help="name, part of a name, path, or latest (default)")
    parser.add_argument("--format", choices=_FORMATS, required=True, help="of the file", dest="form")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="where it goes (default: standard output)")
    add_results(parser)
    parser.set_defaults(command=_export)


def _export(options: argparse.Namespace) -> int:
    import msgspec

    from pytest_modellens.report.export import export, write_export
    from pytest_modellens.report.source import read
    from pytest_modellens.storage import find_run

    run = read(find_run(options.results, options.run))
    found = export(run, options.form)
    if options.out is None:
        print(msgspec.json.format(msgspec.json.encode(found.data), indent=2).decode())
    else:
        write_export(options.out, found)
        print(f"exported: {options.out} ({found.n_cells} case{'s' * (found.n_cells != 1)})")
    for problem in run.problems:
        print(f"note: {problem}", file=sys.stderr)
    for name, why in found.left_out.items():
        print(f"left out: {name}: {why}", file=sys.stderr)
    return 0
