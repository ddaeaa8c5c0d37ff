"""What the parts of the `modellens` command share: options, values of options, and a line that says what goes on."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["add_results", "count", "duration", "formats", "progress", "words"]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)?", re.ASCII)
_SECONDS = {None: 1, "s": 1, "m": 60, "h": 3600}


def add_results(parser: Any) -> None:
    """Add the option that says where runs are."""
    parser.add_argument(
        "--results", type=Path, default=Path("results"), metavar="DIR", help="where runs are (default: results)"
    )


def count(text: str) -> int:
    """Return a whole number from 1 on."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on (got {text!r})")
    return int(text)


def duration(text: str) -> float:
    """Return seconds, of `90s`, `10m` or `1.5h`."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"must be a duration such as 90s, 10m or 1.5h (got {text!r})")
    return float(match[1]) * _SECONDS[match[2]]


def formats(text: str) -> tuple[str, ...]:
    """Return the file formats of plots."""
    names = tuple(text.split(","))
    if not {*names} <= {"png", "svg"}:
        raise argparse.ArgumentTypeError(f"must be png, svg or png,svg (got {text!r})")
    return names


def words(text: str) -> list[str]:
    """Return arguments as a shell would split them."""
    try:
        return shlex.split(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"must be words as in a shell: {exc} (got {text!r})") from None


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Lend what shows a text in the place of the one before, and erase it at the end; silent without a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _: None
        return

    def say(text: str) -> None:
        # A line that wraps could not be erased.
        sys.stderr.write(f"\r\x1b[K{printable(text)[: shutil.get_terminal_size().columns - 1]}")
        sys.stderr.flush()

    try:
        yield say
    finally:
        say("")
