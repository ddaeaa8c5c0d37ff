"""`python -m pytest_modellens.truth`: the truth server by hand, or as the child process of `TruthServer`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
from typing import TYPE_CHECKING

from pytest_modellens.truth.catalogue import SCENARIOS
from pytest_modellens.truth.kernel import allow_many_connections
from pytest_modellens.truth.parse import MODEL_PREFIX
from pytest_modellens.truth.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_modellens.truth.records import Lateness


def main(arguments: Sequence[str] | None = None, *, serve: Callable[[int], Server] = Server) -> None:
    """Serve until interrupted; as a child until the parent is gone.

    Args:
        arguments: of the command line; None: this process's.
        serve: makes the server that listens on a port.
    """
    options = _parse(arguments)
    if options.list:
        with contextlib.suppress(BrokenPipeError):  # `| head`
            _say("\n".join(f"{MODEL_PREFIX}{name:36} {scenario.description}" for name, scenario in SCENARIOS.items()))
        return
    allow_many_connections()
    try:
        server = serve(options.port)
    except OSError as exc:
        sys.exit(f"truth server: cannot listen on 127.0.0.1:{options.port} ({exc.strerror or exc})")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.ExitStack() as stack:
        stack.callback(server.close)
        if options.parent is not None:
            _end_with(options.parent, server, stack)
            _say(json.dumps({"root": server.root}))
            server.run()
            return
        _say(f"truth server: {server.root}/v1 (models: --list; log: {server.root}/truth/log; Ctrl-C ends it)")
        stack.callback(_show_punctuality, server)
        with contextlib.suppress(KeyboardInterrupt):
            server.run()


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pytest_modellens.truth",
        description="A scripted server of chat completions on 127.0.0.1 whose send times are known.",
    )
    parser.add_argument("--port", type=_port, default=0, help="Port to listen on; 0, the default, takes a free one")
    parser.add_argument("--list", action="store_true", help="Show the scenarios and end")
    parser.add_argument("--parent", type=int, help="Process to end with; standard input is its pipe, too")
    return parser.parse_args(arguments)


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError(f"must be a number from 0 to 65535 (got {text!r})")


def _end_with(parent: int, server: Server, stack: contextlib.ExitStack) -> None:
    server.watch(sys.stdin.fileno(), lambda _: server.stop())
    # A forked child of the parent holds the pipe open, too, and may outlive it.
    if sys.platform == "linux":  # pragma: no branch
        try:
            pidfd = os.pidfd_open(parent)
        except ProcessLookupError:
            server.stop()
        except OSError:
            pass  # an older kernel, or a sandbox that does not know the call
        else:
            stack.callback(os.close, pidfd)
            server.watch(pidfd, lambda _: server.stop())


def _show_punctuality(server: Server) -> None:
    punctuality = server.ledger.punctuality()
    for name, lateness in (("all", punctuality.overall), *punctuality.scenarios.items()):
        _say(f"late by, {name}: {_shown(lateness)}")


def _shown(lateness: Lateness) -> str:
    if not lateness.n:
        return "nothing was sent"
    return (
        f"p50 {lateness.p50_ms:.3f} ms, p99 {lateness.p99_ms:.3f} ms, max {lateness.max_ms:.3f} ms (n = {lateness.n:,})"
    )


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
