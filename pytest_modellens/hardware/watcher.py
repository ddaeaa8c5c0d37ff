"""Looking at something in the background of a cell, again and again, without ever getting into its way."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from contextlib import nullcontext
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Self

__all__ = ["CPU_SHARE", "PATIENCE_S", "Watcher"]

log = logging.getLogger(__name__)

CPU_SHARE = 0.005
"""Share of one core that watching may take; where a look costs more, looks are taken less often."""
PATIENCE_S = 5.0
"""Longest wait for the thread: what is looked at may hang, and the run must not."""


class Watcher(ABC):
    """Looks in a thread while its `with` block runs; at least once at the start and once at the end.

    Nothing here raises into the block. A subclass says what a look is.
    """

    def __init__(self, interval_s: float | None, *, name: str) -> None:
        """Prepare to look every `interval_s` seconds; None: only at the start and at the end."""
        if interval_s is not None and interval_s <= 0:
            raise ValueError(f"interval_s: must be above 0 (got {interval_s!r})")
        self.cpu_s = 0.0
        """CPU time that looking has taken."""
        self.watch_note: str | None = None
        """What went wrong with the looking itself; None when nothing did."""
        self._interval_s = interval_s
        self._series: list[dict[str, Any]] = []
        self._first_done, self._stop = Event(), Event()
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._started_ns = 0

    @abstractmethod
    def _sample(self) -> dict[str, Any] | None:
        """Return one look, as plain JSON types; None when there is nothing to keep."""

    def _session(self) -> AbstractContextManager[object]:
        """Return what has to be open while samples are taken."""
        return nullcontext()

    def __enter__(self) -> Self:
        self._started_ns = time.perf_counter_ns()
        try:
            self._thread.start()
        except RuntimeError as exc:  # no more threads allowed here
            self.watch_note = f"sampling did not start ({exc})"
            return self
        if not self._first_done.wait(PATIENCE_S):
            self.watch_note = f"the first sample took more than {PATIENCE_S:g} s"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the last sample and end; for a block that reads the summary before it is left."""
        self._stop.set()
        if self._thread.ident is None:
            return
        self._thread.join(PATIENCE_S)
        if self._thread.is_alive():
            self.watch_note = f"the last sample took more than {PATIENCE_S:g} s"

    @property
    def series(self) -> list[dict[str, Any]]:
        """The samples so far, oldest first, as plain JSON types; `at_ms` counts from the start of the block."""
        return list(self._series)

    def _run(self) -> None:
        try:
            with self._session():
                ended = False
                while not ended:
                    cost_s = self._add_sample()
                    self._first_done.set()
                    pause_s = None if self._interval_s is None else max(self._interval_s, cost_s / CPU_SHARE)
                    ended = self._stop.wait(pause_s)
                self._add_sample()
        except Exception as exc:  # a driver in trouble must not end the run
            log.debug("sampling ended early", exc_info=True)
            self.watch_note = f"sampling ended early ({exc!r})"
            self._first_done.set()

    def _add_sample(self) -> float:
        """Return the CPU seconds that it took."""
        before_s = time.thread_time()
        try:
            sample = self._sample()
            if sample is not None:
                self._series.append(sample)
        except Exception as exc:  # one bad look at a driver or at /proc must not end the series
            log.debug("a sample failed", exc_info=True)
            self.watch_note = f"a sample failed ({exc!r})"
        cost_s = time.thread_time() - before_s
        self.cpu_s += cost_s
        return cost_s
