"""One monotonic scale for every instant, and the kernel's receive time stamps put on it.

On Linux a socket with SO_TIMESTAMPNS hands out, with each `recvmsg`, when the data reached the machine. That instant
does not depend on how busy this process is. It is CLOCK_REALTIME; everything else here is `perf_counter_ns`, so the
difference of the two is taken next to each request, and once more after it to notice a clock that was set meanwhile.
"""

from __future__ import annotations

import socket
import struct
import sys
import time

__all__ = [
    "SO_TIMESTAMPNS",
    "STEP_NS",
    "ancillary_bytes",
    "enable_kernel_stamps",
    "now_ns",
    "realtime_offset_ns",
    "stamp_ns",
    "timespec_of",
]

now_ns = time.perf_counter_ns

STEP_NS = 200_000
"""A larger change of the offset during a request means that the wall clock was set."""

# asm-generic/socket.h; the few architectures that number it otherwise fall back to perf_counter.
SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@qq")
_TIMESPEC_BYTES = _TIMESPEC.size
_unpack_timespec = _TIMESPEC.unpack
_SUPPORTED = sys.platform == "linux" and struct.calcsize("P") == 8 and hasattr(socket.socket, "recvmsg")

ancillary_bytes = socket.CMSG_SPACE(_TIMESPEC.size) if hasattr(socket, "CMSG_SPACE") else 0
"""Room that `recvmsg` needs for one time stamp."""


def enable_kernel_stamps(sock: socket.socket) -> bool:
    """Ask the kernel to stamp what `sock` receives and return whether it will."""
    if not _SUPPORTED:
        return False
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True


def realtime_offset_ns() -> int:
    """Return CLOCK_REALTIME minus `now_ns`, from the tightest of five readings."""
    best = None
    for _ in range(5):
        before = now_ns()
        wall = time.time_ns()
        after = now_ns()
        if best is None or after - before < best[0]:
            best = (after - before, wall - (before + after) // 2)
    assert best is not None
    return best[1]


def stamp_ns(timespec: bytes | None) -> int | None:
    """Return a time stamp as the kernel wrote it (`struct timespec`) in CLOCK_REALTIME ns; None where there is none."""
    if timespec is None or len(timespec) != _TIMESPEC_BYTES:
        return None
    seconds, nanoseconds = _unpack_timespec(timespec)
    stamp: int = seconds * 1_000_000_000 + nanoseconds
    return stamp


def timespec_of(stamp: int | None) -> bytes | None:
    """Return what `stamp_ns` makes `stamp` of."""
    return None if stamp is None else _TIMESPEC.pack(*divmod(stamp, 1_000_000_000))
