"""The server's process: it starts, says why when it does not, and never outlives its parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from pytest_modellens.errors import ServerError
from pytest_modellens.truth import client
from pytest_modellens.truth.catalogue import SCENARIOS
from pytest_modellens.truth.client import TruthServer

ROOT = Path(__file__).resolve().parents[2]


def is_listening(root: str) -> bool:
    parts = urlsplit(root)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout=60).close()
    except OSError:
        return False
    return True


def wait_until_gone(root: str) -> bool:
    deadline = time.perf_counter() + 60
    while time.perf_counter() < deadline:
        if not is_listening(root):
            return True
        time.sleep(0.02)
    return False


def run_parent(source: str) -> tuple[int, str]:
    """Run a program that starts a server, prints its root and ends; return its status and that root."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", source], env=environment, stdout=subprocess.PIPE, timeout=60, check=False, text=True
    )
    return done.returncode, done.stdout.strip()


def test_stop_ends_the_server() -> None:
    server = TruthServer()
    with server:
        root = server.root
        assert server.start() is server
        assert server.url == f"{root}/v1"
        assert server.pid is not None
        assert is_listening(root)

    assert not is_listening(root)
    server.stop()
    with pytest.raises(ServerError, match=r"not running \(call start\(\)\)"):
        _ = server.url


def test_server_ends_with_a_parent_that_is_killed() -> None:
    status, root = run_parent(
        "import os, signal\n"
        "from pytest_modellens.truth.client import TruthServer\n"
        "print(TruthServer().start().root, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )

    assert status == -signal.SIGKILL
    assert wait_until_gone(root)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's end from its pipes' end")
def test_server_ends_although_a_fork_of_its_parent_holds_the_pipe() -> None:
    status, said = run_parent(
        "import os, signal, time\n"
        "from pytest_modellens.truth.client import TruthServer\n"
        "server = TruthServer().start()\n"
        "fork = os.fork()\n"
        "if not fork:\n"
        "    os.close(1)\n"
        "    time.sleep(600)\n"
        "    os._exit(0)\n"
        "print(server.root, fork, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root, _, fork = said.partition(" ")

    assert status == -signal.SIGKILL
    try:
        assert wait_until_gone(root)
    finally:
        os.kill(int(fork), signal.SIGKILL)


def test_server_ends_with_an_interpreter_that_forgot_it() -> None:
    status, root = run_parent(
        "from pytest_modellens.truth.client import TruthServer\nprint(TruthServer().start().root, flush=True)\n"
    )

    assert status == 0
    assert wait_until_gone(root)


def test_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerError) as caught:
            TruthServer(port=port).start()

    message = str(caught.value)
    assert message.startswith("truth server: ended with exit status 1 before it listened\n")
    assert f"cannot listen on 127.0.0.1:{port}" in message


def test_server_that_takes_too_long_is_given_up() -> None:
    server = TruthServer(start_timeout_s=0)

    with pytest.raises(ServerError, match="not ready within 0 s"):
        server.start()
    assert server.pid is None


@pytest.mark.parametrize(
    ("child", "patience_s", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 60.0, "killed by SIGKILL before it listened"),
        ("import os, time; os.close(1); time.sleep(600)", 0.1, "closed its output before it listened"),
        ("raise SystemExit('no room')", 60.0, "ended with exit status 1 before it listened\nno room"),
    ],
)
def test_end_before_the_start_is_described(
    child: str, patience_s: float, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_START", child)
    monkeypatch.setattr(client, "_STOP_PATIENCE_S", patience_s)

    with pytest.raises(ServerError) as caught:
        TruthServer().start()
    assert str(caught.value) == f"truth server: {message}"


def test_dead_server_is_reported() -> None:
    with TruthServer() as server:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        assert wait_until_gone(server.root)
        with pytest.raises(ServerError, match="GET /truth/punctuality was not answered"):
            server.punctuality()


def test_child_needs_no_more_than_msgspec() -> None:
    source = (
        "import sys, pytest_modellens.truth.__main__\n"
        "print(sorted({'requests', 'numpy', 'pytest', 'yaml', 'psutil', 'scipy'} & set(sys.modules)))\n"
    )

    assert run_parent(source) == (0, "[]")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_line_serves_until_interrupted_and_shows_punctuality(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "pytest_modellens.truth", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            url = first.split()[2]
            body = {"model": "truth:steady", "stream": True}
            assert requests.post(f"{url}/chat/completions", json=body, timeout=60).text.endswith("data: [DONE]\n\n")
            process.send_signal(number)
            rest = process.communicate(timeout=60)[0]
        finally:
            process.kill()

    assert first.startswith("truth server: http://127.0.0.1:")
    assert process.returncode == 0
    assert rest.startswith("late by, all: p50 ")
    assert "late by, steady: p50 " in rest


def test_command_line_lists_the_scenarios() -> None:
    command = [sys.executable, "-m", "pytest_modellens.truth", "--list"]
    listed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=60, check=True, text=True).stdout

    assert [line.split()[0] for line in listed.splitlines()] == [f"truth:{name}" for name in SCENARIOS]


def test_command_line_refuses_what_is_no_port() -> None:
    command = [sys.executable, "-m", "pytest_modellens.truth", "--port", "70000"]
    done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, timeout=60, check=False, text=True)

    assert done.returncode == 2
    assert "must be a number from 0 to 65535 (got '70000')" in done.stderr
