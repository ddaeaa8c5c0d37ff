"""The process of one load worker, which `execute_in_workers` starts and feeds through its standard input.

It imports no more than it needs to send, ends when its parent ends, and takes SIGINT as the order to give up.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any

from pytest_modellens.errors import ConfigError
from pytest_modellens.load.executor import execute
from pytest_modellens.load.frames import plan_from, progress_to, read_frame, reply_to, request_from, write_frame
from pytest_modellens.load.plan import Share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_modellens.load.pace import Turn
    from pytest_modellens.load.reply import LoadProgress, LoadReply
    from pytest_modellens.models import RunRequest
    from pytest_modellens.providers.http import HTTPProvider

__all__ = ["main"]

_LOOK_AT_PARENT_S = 0.25


def main(stdin: IO[bytes], stdout: IO[bytes]) -> None:
    """Carry out one worker's share of a load; replies go to `stdout` as they are decoded."""
    setup = read_frame(stdin)
    if setup is None:
        return
    _end_with_parent(setup["parent"])
    try:
        provider = _provider(setup["provider"])
        write_frame(stdout, {"kind": "ready"})
        begin = read_frame(stdin)
        if begin is not None:
            _work(provider, setup, begin["begin_ns"], stdin, stdout)
    except ConfigError as exc:
        write_frame(stdout, {"kind": "refused", "text": str(exc)})
    except BrokenPipeError:
        pass  # the parent no longer listens


def _work(provider: HTTPProvider, setup: dict[str, Any], begin_ns: int, stdin: IO[bytes], stdout: IO[bytes]) -> None:
    latest: list[LoadProgress] = []
    keep = _keeper(provider, setup)

    def on_begin(turn: Turn) -> None:
        write_frame(stdout, {"kind": "begun", "index": turn.index, "phase": turn.phase, "at": time.perf_counter_ns()})

    def on_progress(progress: LoadProgress) -> None:
        latest[:] = [progress]

    try:
        for reply in execute(
            provider,
            plan_from(setup["plan"]),
            _requests(stdin),
            stall_timeout_s=setup["stall_timeout_s"],
            on_progress=on_progress,
            share=Share(setup["worker"], setup["workers"]),
            begin_ns=begin_ns,
            on_begin=on_begin,
        ):
            progress = progress_to(latest[0])
            write_frame(stdout, {"kind": "reply", "reply": reply_to(keep(reply)), "progress": progress})
    except KeyboardInterrupt:
        pass  # the parent's order; all that was under way has been handed over
    write_frame(stdout, {"kind": "end", "progress": progress_to(latest[0])})


def _keeper(provider: HTTPProvider, setup: dict[str, Any]) -> Callable[[LoadReply], LoadReply]:
    """Return what is done with a reply before it is handed over: keep its raw bytes, where the run does."""
    if setup["keeping"] is None:
        return lambda reply: reply
    from pytest_modellens.cassette.writer import Cassette

    cassette, scene = Cassette.in_worker(setup["keeping"], setup["worker"])
    return lambda reply: cassette.keep_loaded(provider, reply, scene)


def _requests(stdin: IO[bytes]) -> Iterator[RunRequest]:
    """Yield requests as the parent hands them over; one that is the same as before is only named so."""
    last: RunRequest | None = None
    while (message := read_frame(stdin)) is not None:
        if "request" in message:
            last = request_from(message["request"])
        assert last is not None
        yield last


def _provider(setup: dict[str, Any]) -> HTTPProvider:
    cls: Any = import_module(setup["module"])
    for part in setup["class"].split("."):
        cls = getattr(cls, part)
    provider: HTTPProvider = cls(
        setup["base_url"],
        api_key=setup["api_key"],
        event_source=setup["event_source"],
        timeout_s=setup["timeout_s"],
    )
    # A server of our own is never behind a proxy, whatever its class says of others.
    vars(provider)["uses_proxies"] = setup["uses_proxies"]
    provider.headers = setup["headers"]
    return provider


def _end_with_parent(parent: int) -> None:
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_AT_PARENT_S)
        os._exit(1)

    threading.Thread(target=watch, name="modellens-parent", daemon=True).start()


def _main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # What is printed by mistake must not come between the frames.
    stdout = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    main(sys.stdin.buffer, stdout)


if __name__ == "__main__":
    _main()
