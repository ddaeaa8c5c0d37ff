"""An asyncio loop in a thread of its own, for whoever is not asynchronous."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["LoopThread", "NotInTimeError"]

T = TypeVar("T")

STOP_S = 2.0
"""Longest wait for the loop to stop."""


class NotInTimeError(TimeoutError):
    """A coroutine did not end in time, which is not the same as one that raises a time-out of its own."""


class LoopThread:
    """Runs coroutines of foreign code; one that never ends holds nothing but this thread, which ends with us."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="modellens-amplifier", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T], *, timeout_s: float | None = None) -> T:
        """Return what `coroutine` returns, or raise what it raises.

        Raises:
            NotInTimeError: it did not end in time; it is cancelled, and not waited for.
        """
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout_s)
        except FutureTimeoutError as exc:
            if future.done():
                raise
            future.cancel()
            raise NotInTimeError from exc
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Stop the loop; what does not end is left to the end of the process."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_S)
        if not self._thread.is_alive():
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()
