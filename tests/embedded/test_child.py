"""The server's process never outlives the one that started it, however that ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from pytest_modellens.embedded import child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_modellens.embedded.weights import Weights

_ROOT = Path(child.__file__).parents[2]
_PARENT = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from pytest_modellens.embedded.server import EmbeddedServer
from pytest_modellens.embedded.weights import find_weights

server = EmbeddedServer(find_weights(sys.argv[2]))
{run}
"""
_STARTED = "server.start(); print(server.pid, flush=True); time.sleep(600)"
_FORKED = """
server.start()
forked = os.fork()
if forked:
    print(server.pid, forked, flush=True)
time.sleep(600)
"""
_LOADING = """
import threading
def show():
    while server.pid is None or not Path(sys.argv[3]).exists():
        time.sleep(0.01)
    print(server.pid, flush=True)
threading.Thread(target=show).start()
server.start()
"""


@contextlib.contextmanager
def _parent(run: str, *arguments: object) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Run a process that starts a server; yield it and the pids that it printed."""
    command = [sys.executable, "-c", _PARENT.format(run=run), str(_ROOT), *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        pids: list[int] = []
        try:
            assert process.stdout is not None
            pids += map(int, process.stdout.readline().split())
            assert pids
            yield process, pids
        finally:
            process.kill()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _is_gone(pid: int, *, within_s: float = 60.0) -> bool:
    """Return whether `pid` ends in time; one that only waits to be reaped by init has ended."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_child_is_gone_after_its_parent_was_ended_by(number: signal.Signals, tiny_weights: Weights) -> None:
    with _parent(_STARTED, tiny_weights.path) as (process, pids):
        process.send_signal(number)
        process.wait(60)

        assert _is_gone(pids[0])


def test_child_is_gone_after_its_parent_ended_without_stopping_it(tiny_weights: Weights) -> None:
    with _parent("server.start(); print(server.pid, flush=True)", tiny_weights.path) as (process, pids):
        process.wait(60)

        assert _is_gone(pids[0])


@pytest.mark.skipif(sys.platform != "linux", reason="needs a pidfd")
def test_child_is_gone_after_kill_9_even_if_a_fork_of_the_parent_lives_on(tiny_weights: Weights) -> None:
    with _parent(_FORKED, tiny_weights.path) as (process, pids):
        process.kill()
        process.wait(60)

        assert _is_gone(pids[0])
        assert not _is_gone(pids[1], within_s=0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="needs the parent-death signal")
def test_child_is_gone_after_kill_9_while_it_loads(
    tiny_weights: Weights, tmp_path: Path, fake_xllamacpp: Callable[[str], None]
) -> None:
    loading = tmp_path / "loading"
    # Like the real one, this load keeps the interpreter's lock.
    fake_xllamacpp(f"open({str(loading)!r}, 'w').close(); ctypes.PyDLL(None).sleep(600)")

    with _parent(_LOADING, tiny_weights.path, loading) as (process, pids):
        process.kill()
        process.wait(60)

        assert _is_gone(pids[0])


@pytest.mark.skipif(sys.platform != "linux", reason="needs the parent-death signal")
def test_child_survives_the_thread_that_started_it(tiny_weights: Weights) -> None:
    run = """
import threading
starting = threading.Thread(target=server.start)
starting.start()
starting.join()
time.sleep(0.5)
print(int(server.is_running), flush=True)
server.stop()
"""
    with _parent(run, tiny_weights.path) as (process, printed):
        process.wait(60)
        assert printed == [1]
        printed.clear()


def test_wait_for_end_returns_when_the_pipe_closes() -> None:
    reading, writing = os.pipe()
    waiting = threading.Thread(target=child.wait_for_end, args=(reading, os.getpid()))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()

    os.close(writing)
    waiting.join(60)

    assert not waiting.is_alive()
    os.close(reading)


@pytest.fixture
def open_pipe() -> Iterator[int]:
    """The reading end of a pipe whose other end stays open."""
    reading, writing = os.pipe()
    yield reading
    os.close(writing)
    os.close(reading)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a pidfd")
def test_wait_for_end_returns_when_the_process_is_gone_already(open_pipe: int) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass

    child.wait_for_end(open_pipe, process.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a pidfd")
def test_wait_for_end_returns_when_the_process_ends(open_pipe: int) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.2)"]) as process:
        child.wait_for_end(open_pipe, process.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a pidfd")
def test_wait_for_end_watches_the_pipe_alone_without_pidfd(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    reading, writing = os.pipe()
    os.close(writing)

    child.wait_for_end(reading, os.getpid())

    os.close(reading)


def test_child_runs_without_this_package(tiny_weights: Weights, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise ImportError('from the working directory')")
    command = [sys.executable, "-P", child.__file__, f"--weights={tiny_weights.path}", "--name=-x", "--threads=1"]

    done = subprocess.run(
        command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=True, text=True
    )

    assert done.stdout.startswith('{"url": "http://127.0.0.1:')
    assert len(done.stdout.splitlines()) == 1
