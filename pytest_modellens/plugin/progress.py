"""One short line that says what is going on, on a terminal, while a test runs."""

from __future__ import annotations

import os
import sys
import time
from threading import Event, Thread
from typing import IO, TYPE_CHECKING, Any, Self

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Progress", "keep_terminal"]

_TERMINAL: pytest.StashKey[IO[str]] = pytest.StashKey()

_TICK_S = 0.25
_FIRST_AFTER_S = 0.5
"""What is over sooner needs no progress."""


class Progress:
    """Shows a text and the seconds gone by, behind what pytest has written on the line; erases it at the end.

    Silent without a terminal, with `-q`, and in xdist's workers.
    """

    def __init__(self, config: pytest.Config, text: str) -> None:
        self._text: str | Callable[[], str] = text
        self._file, self._width = _terminal(config)
        self._shown = 0
        self._stop = Event()
        self._thread: Thread | None = None

    def __enter__(self) -> Self:
        if self._file is not None:
            self._thread = Thread(target=self._run, name="modellens-progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._erase()

    def say(self, text: str | Callable[[], str]) -> None:
        """Show `text` from now on; what can be called is asked whenever the line is written, in a thread of its own."""
        self._text = text

    def _run(self) -> None:
        began = time.monotonic()
        wait = _FIRST_AFTER_S
        while not self._stop.wait(wait):
            wait = _TICK_S
            text = self._text if isinstance(self._text, str) else self._text()
            self._show(f" {text} · {time.monotonic() - began:.0f} s")

    def _show(self, line: str) -> None:
        assert self._file is not None
        line = line[: self._width]
        self._erase()
        self._file.write(line)
        self._file.flush()
        self._shown = len(line)

    def _erase(self) -> None:
        if self._shown and self._file is not None:
            self._file.write(f"\x1b[{self._shown}D\x1b[K")
            self._file.flush()
            self._shown = 0


def keep_terminal(config: pytest.Config) -> None:
    """Keep a way to the terminal, if there is one, for the time in which pytest captures standard output."""
    if sys.stdout is None or not sys.stdout.isatty():
        return
    # Called while nothing is captured yet. pytest's own writer writes to the descriptor that is captured later.
    file = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding=sys.stdout.encoding, errors="replace")
    config.stash[_TERMINAL] = file
    config.add_cleanup(file.close)


def _terminal(config: pytest.Config) -> tuple[IO[str] | None, int]:
    """Return the terminal behind pytest's capturing and the columns left on its line; None without a terminal."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not reporter.isatty or config.option.verbose < 0 or hasattr(config, "workerinput"):
        return None, 0
    writer = config.get_terminal_writer()
    return config.stash.get(_TERMINAL, None), max(0, writer.fullwidth - writer.width_of_current_line - 2)
