"""The server with known send times (known_server.c): compiled, started on a core of its own, and its log read back."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["KnownServer", "Sent", "known_server"]

_SOURCE = Path(__file__).with_suffix(".c")
_ENTRY = struct.Struct("=qqq")


class Sent(NamedTuple):
    """What the server did for one request, in ns on the scale of `time.perf_counter_ns`."""

    arrival_ns: int
    """When the kernel had the whole request."""
    tokens_ns: list[int]
    """Just before each token was handed to the network."""
    doubt_ns: list[int]
    """How much later that call returned: the token left somewhere between."""


class KnownServer:
    """The running server."""

    def __init__(self, port: int, pid: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.pid = pid

    def take_log(self) -> dict[int, Sent]:
        """Return, by serial number, what was sent since the last call."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.url}/log", timeout=30) as response:
            data: bytes = response.read()
        log = {}
        at = 0
        while at < len(data):
            serial, tokens, arrival = _ENTRY.unpack_from(data, at)
            at += _ENTRY.size
            instants = struct.unpack_from(f"={2 * tokens}q", data, at)
            at += 16 * tokens
            before, after = list(instants[:tokens]), instants[tokens:]
            log[serial] = Sent(arrival, before, [b - a for a, b in zip(before, after, strict=True)])
        return log


@contextmanager
def known_server(
    folder: Path, *, first_ms: float, gap_ms: float, core: int | None, names_role: bool = True
) -> Iterator[KnownServer]:
    """Lend the server, compiled into `folder` and pinned to `core`; the program ends where that cannot be done.

    With `names_role` the first event of an answer is one without text, as of most servers.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if sys.platform != "linux" or compiler is None:
        sys.exit("This benchmark needs Linux and a C compiler (cc), for the server with known send times.")
    program = folder / "known_server"
    subprocess.run([compiler, "-O2", "-o", program, _SOURCE], check=True)
    command: list[str | Path] = [program, str(first_ms), str(gap_ms), *([] if names_role else ["bare"])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            if core is not None:
                os.sched_setaffinity(server.pid, {core})
            yield KnownServer(port, server.pid)
        finally:
            server.terminate()
