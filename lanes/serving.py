"""A server of a lane: a command that runs while the block lasts, on a port of its own, and ends with its whole tree."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil

from pytest_modellens.errors import RequestError
from pytest_modellens.providers.base import RunRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_modellens.providers.base import ProviderAdapter

__all__ = ["free_port", "served"]

_PATIENCE_S = 600.0
_END_OF_LOG = 3000


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
    return port


@contextlib.contextmanager
def served(
    command: Sequence[str], provider: ProviderAdapter, model: str, *, log: Path, env: Mapping[str, str]
) -> Iterator[None]:
    """Run `command`, which serves for `provider`, from its first real answer on until the block ends.

    Raises:
        RuntimeError: it ended, or gave no answer in time; the message holds the end of its log.
    """
    with log.open("wb") as output:
        process = psutil.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **env}
        )
        try:
            took_s = _wait(process, provider, model, log)
            sys.stdout.write(f"\n{provider.name}: ready after {took_s:.0f} s\n")
            yield
        finally:
            _end(process)


def _wait(process: psutil.Popen, provider: ProviderAdapter, model: str, log: Path) -> float:
    """Return after how many seconds the server had answered a first token."""
    began = time.monotonic()
    while time.monotonic() - began < _PATIENCE_S:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode}{_last_words(log)}")
        if provider.health_check():
            try:
                provider.run_prompt(RunRequest("Hi.", model, max_tokens=1, timeout_s=60.0))
            except RequestError as exc:
                raise RuntimeError(f"the server is well but answers {exc}{_last_words(log)}") from exc
            return time.monotonic() - began
        time.sleep(1.0)
    raise RuntimeError(f"the server gave no answer within {_PATIENCE_S:g} s{_last_words(log)}")


def _end(process: psutil.Popen) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        tree = [process, *process.children(recursive=True)]
        process.terminate()
        _, left = psutil.wait_procs(tree, timeout=10)
        for straggler in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                straggler.kill()
        psutil.wait_procs(left, timeout=10)


def _last_words(log: Path) -> str:
    return "\n" + log.read_bytes()[-_END_OF_LOG:].decode("utf-8", "replace")
