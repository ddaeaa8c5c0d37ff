"""The process that serves one GGUF file over HTTP, by llama.cpp.

`EmbeddedServer` starts this file by its path, in a safe-path interpreter, so it imports nothing of this package: a file
in the user's working directory can then never take the place of a module. It ends when its standard input ends.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import select
import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until the parent is gone, then end the process; `{"url": …}` is printed once the model is loaded."""
    options = _parse(arguments)
    announcements = _reserve_stdout()
    # Loading holds the interpreter's lock, so nothing written in Python could watch the parent meanwhile. The signal is
    # for the end of the parent's *thread*, not of its process: it must not stay set once loaded.
    _signal_at_parents_end(signal.SIGKILL)
    import xllamacpp

    try:
        server = xllamacpp.Server(_fill(xllamacpp.CommonParams(), options))
    except RuntimeError as exc:
        sys.exit(f"xllamacpp: {exc}")
    _signal_at_parents_end(0)
    with contextlib.suppress(BrokenPipeError), os.fdopen(announcements, "w", encoding="utf-8") as file:
        file.write(json.dumps({"url": server.listening_address}) + "\n")
    wait_for_end(sys.stdin.fileno(), options.parent)
    # The native server's own teardown waits for answers under way, which nobody reads any more.
    os._exit(0)


def wait_for_end(stdin: int, parent: int) -> None:
    """Return when the parent closed the pipe `stdin`, or when the process `parent` ended."""
    poller = select.poll()
    poller.register(stdin, select.POLLIN | select.POLLHUP)
    with contextlib.ExitStack() as stack:
        # A forked child of the parent holds the pipe open, too, and may outlive it.
        if sys.platform == "linux":  # pragma: no branch
            try:
                pidfd = os.pidfd_open(parent)
            except ProcessLookupError:
                return
            except OSError:
                pass  # an older kernel, or a sandbox that does not know the call
            else:
                stack.callback(os.close, pidfd)
                poller.register(pidfd, select.POLLIN)
        poller.poll()


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pytest_modellens.embedded.child", description=__doc__)
    parser.add_argument("--weights", required=True, help="GGUF file to serve")
    parser.add_argument("--name", required=True, help="What the server calls the model")
    parser.add_argument("--threads", type=int, required=True, help="Threads that compute")
    parser.add_argument("--parallel", type=int, default=1, help="Requests served at once")
    parser.add_argument("--context", type=int, default=4096, help="Tokens that each of them may hold")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--parent", type=int, default=os.getppid(), help="Process to end with")
    return parser.parse_args(arguments)


def _fill(params: Any, options: argparse.Namespace) -> Any:
    params.model.path = options.weights
    params.model_alias = {options.name}
    params.port = options.port
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    params.n_parallel = options.parallel
    params.n_ctx = options.context * options.parallel  # llama.cpp divides it among the slots
    params.endpoint_metrics = True
    params.ui = False
    # What is measured must not depend on how much memory happens to be free,
    params.fit_params = False
    # nor on prompts of earlier requests that are no longer in a slot: no second cache behind the slots' own.
    params.cache_ram_mib = 0
    params.cache_idle_slots = False
    return params


def _reserve_stdout() -> int:
    """Return a descriptor of standard output, which prints of the native library no longer reach."""
    kept = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return kept


def _signal_at_parents_end(number: int) -> None:
    if sys.platform == "linux":  # pragma: no branch
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


if __name__ == "__main__":
    main()
