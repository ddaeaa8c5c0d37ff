"""The process between a run and the command of a server: it starts the command, and ends all that came of it.

It ends everything when its standard input ends, when the process that started it is gone, however that ended, and when
the command itself has ended. On standard output it says, in lines of JSON, the command's process or why it could not
be started, and the status with which it ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_TICK_S = 0.1
PATIENCE_S = 5.0
"""What a server has for ending in order."""
_KILL_PATIENCE_S = 5.0


def main(command: Sequence[str], *, parent: int) -> None:
    """Run `command` until it ends, or standard input or the process `parent` does; then end what is left of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the run, which then ends this in order
    # What a server starts and leaves behind comes to this process then, and not to init.
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        # Its output goes where this process's errors go: a file, which never makes it wait.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            stderr=sys.stderr.fileno(),
            start_new_session=True,
            # Should this process be killed, at least the server itself goes with it.
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509  # it has one thread
        )
    except (OSError, ValueError, subprocess.SubprocessError) as exc:
        _say({"error": str(exc)})
        return
    _say({"pid": process.pid})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    status = None
    try:
        status = _watch(process, parent)
    finally:
        # Ctrl-C on a run that is ending must not leave half of a server.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end_all()
    if status is not None:
        _say({"status": status})


def _watch(process: subprocess.Popen[bytes], parent: int) -> int | None:
    """Return the command's exit status, or None when it is to be ended."""
    stdin = sys.stdin.fileno()
    while (status := process.poll()) is None:
        readable, _, _ = select.select([stdin], [], [], _TICK_S)
        if (readable and not os.read(stdin, 1024)) or os.getppid() != parent:
            return None
    return status


def _end_all() -> None:
    """End every process below this one: asked first, then killed; those that it leaves behind as well."""
    import psutil

    me = psutil.Process()
    until = time.monotonic() + PATIENCE_S
    for process in me.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            process.terminate()
    while _are_left(me) and time.monotonic() < until:
        time.sleep(0.02)
    until = time.monotonic() + _KILL_PATIENCE_S
    while _are_left(me) and time.monotonic() < until:
        for process in me.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(0.02)


def _are_left(me: Any) -> bool:
    """Return whether there is a process below `me`; those that ended are taken off the table of processes."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    return bool(me.children(recursive=True))


def _end_with_parent() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _say(news: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        print(json.dumps(news), flush=True)


if __name__ == "__main__":
    main(sys.argv[2:], parent=int(sys.argv[1]))
