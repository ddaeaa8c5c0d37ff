"""What this process asks of the kernel: prompt wake-ups, and room for connections."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["allow_many_connections", "wake_up_precisely"]

_PR_SET_TIMERSLACK = 29


def wake_up_precisely() -> None:
    """Ask Linux to end sleeps on time, instead of up to 50 µs late to save power."""
    if sys.platform == "linux":  # pragma: no branch
        try:
            ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
        except (OSError, AttributeError):
            pass  # sleeps are then a little longer, and punctuality shows it


def allow_many_connections() -> None:
    """Raise the limit of open files, often 1,024, as far as this user may."""
    if sys.platform != "win32":  # pragma: no branch
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        except (OSError, ValueError):
            pass  # macOS refuses what it calls unlimited; the usual limit does for most tests
