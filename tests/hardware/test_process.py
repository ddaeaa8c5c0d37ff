from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from pytest_modellens.hardware import process
from pytest_modellens.hardware.process import Listener, ProcessTree, find_listener

if TYPE_CHECKING:
    from collections.abc import Iterator

SLEEP = "import time; time.sleep(600)"
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-S", "-c", "{SLEEP}"])
print(child.pid, flush=True)
sys.stdin.readline()
child.kill()
child.wait()
print("gone", flush=True)
sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """No listener is known from a test before."""
    monkeypatch.setattr(process, "_found", {})


@pytest.fixture
def port() -> Iterator[int]:
    """A port that this process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def connection(ip: str, port: int, pid: int | None, status: str = psutil.CONN_LISTEN) -> Any:
    return SimpleNamespace(laddr=(ip, port), pid=pid, status=status)


def test_listener_of_a_local_port_is_found(port: int) -> None:
    assert find_listener(port) == Listener(os.getpid(), None)


def test_listener_is_searched_once(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    find_listener(port)
    monkeypatch.setattr(psutil, "net_connections", lambda kind: pytest.fail("searched again"))
    assert find_listener(port) == Listener(os.getpid(), None)


def test_listener_that_stopped_listening_is_forgotten() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert find_listener(port).pid == os.getpid()
    assert find_listener(port) == Listener(None, f"port {port}: no process of this machine listens there")


def test_listener_that_cannot_be_looked_at_again_is_searched_again(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    find_listener(port)

    def refuse(self: psutil.Process, kind: str) -> None:
        raise psutil.AccessDenied(self.pid)

    monkeypatch.setattr(psutil.Process, "net_connections", refuse)
    assert find_listener(port) == Listener(os.getpid(), None)


def test_listener_of_another_user_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "net_connections", lambda kind: [connection("0.0.0.0", 8000, None)])
    assert find_listener(8000) == Listener(None, "port 8000: this user may not see which process listens")


def test_listener_that_vanishes_during_the_search_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "net_connections", lambda kind: [connection("127.0.0.1", 8000, 2**22 + 1)])
    listener = find_listener(8000)
    assert listener.pid is None
    assert str(listener.note).startswith("port 8000: the listening process cannot be read (")


def test_listener_on_this_machine_goes_before_one_on_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        connection("10.0.0.7", 8000, 1),
        connection("::", 8000, os.getpid()),
        connection("::", 8001, 1),
        connection("127.0.0.1", 8000, 1, psutil.CONN_ESTABLISHED),
    ]
    monkeypatch.setattr(psutil, "net_connections", lambda kind: found)
    assert find_listener(8000) == Listener(os.getpid(), None)


def test_oldest_of_several_listeners_is_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", SLEEP]) as worker:
        found = [connection("::", 8000, worker.pid), connection("::", 8000, os.getpid())]
        monkeypatch.setattr(psutil, "net_connections", lambda kind: found)
        assert find_listener(8000) == Listener(os.getpid(), None)
        worker.kill()


def test_forwarder_is_not_taken_for_the_server(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil.Process, "name", lambda self: "docker-proxy")
    assert find_listener(port) == Listener(None, f"port {port}: docker-proxy forwards it, the server runs elsewhere")


def test_listener_is_found_where_only_own_sockets_may_be_listed(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(kind: str) -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "net_connections", refuse)
    assert find_listener(port) == Listener(os.getpid(), None)


def test_tree_adds_memory_and_survives_a_child_that_vanishes() -> None:
    command = [sys.executable, "-S", "-c", PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdin is not None
        child = int(parent.stdout.readline())
        tree = ProcessTree(parent.pid)
        both = tree.read()
        assert both.pids == {parent.pid, child}
        assert (both.cpu_percent, both.note) == (None, None)
        parent.stdin.write("\n")
        parent.stdin.flush()
        parent.stdout.readline()
        alone = tree.read()
        assert alone.pids == {parent.pid}
        assert both.rss_mb is not None
        assert alone.rss_mb is not None
        assert 0 < alone.rss_mb < both.rss_mb
        parent.communicate("\n")
    ended = tree.read()
    assert (ended.cpu_percent, ended.rss_mb, ended.pids) == (None, None, frozenset())
    assert ended.note == f"process {parent.pid} has ended"


def test_tree_of_a_zombie_has_ended() -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    tree = ProcessTree(child.pid)
    child.kill()
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.005)
    assert tree.read().note == f"process {child.pid} has ended"
    child.communicate()


def test_tree_of_a_process_that_does_not_exist_is_refused() -> None:
    with pytest.raises(psutil.NoSuchProcess):
        ProcessTree(2**22 + 1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """CPU seconds of processes and the time, both set by the test; the root is this process."""
    state = SimpleNamespace(now=100.0, cpu={os.getpid(): 5.0}, children=[], searches=0, search_cost=0.0, cpu_now=0.0)

    def search(self: psutil.Process, *, recursive: bool) -> list[Any]:
        state.searches += 1
        state.cpu_now += state.search_cost
        return [SimpleNamespace(pid=pid) for pid in state.children]

    def use(looked_at: Any) -> tuple[float, int]:
        value = state.cpu[looked_at.pid]
        if isinstance(value, Exception):
            raise value
        return value, 2**20

    monkeypatch.setattr(time, "perf_counter", lambda: state.now)
    monkeypatch.setattr(time, "thread_time", lambda: state.cpu_now)
    monkeypatch.setattr(psutil.Process, "children", search)
    monkeypatch.setattr(process, "_use", use)
    return state


def test_tree_cpu_is_the_share_since_the_reading_before(clock: Any) -> None:
    clock.children = [7]
    clock.cpu[7] = 1.0
    tree = ProcessTree(os.getpid())
    assert tree.read().cpu_percent is None
    clock.now, clock.cpu = 102.0, {os.getpid(): 6.0, 7: 3.0}
    assert tree.read().cpu_percent == 150.0
    clock.now = 103.0
    assert tree.read().cpu_percent == 0.0


def test_tree_cpu_needs_a_tenth_of_a_second(clock: Any) -> None:
    tree = ProcessTree(os.getpid())
    tree.read()
    clock.now, clock.cpu = 100.0625, {os.getpid(): 5.0625}
    assert tree.read().cpu_percent is None
    clock.now, clock.cpu = 100.25, {os.getpid(): 5.25}
    assert tree.read().cpu_percent == 100.0


def test_tree_child_counts_from_its_first_reading(clock: Any) -> None:
    tree = ProcessTree(os.getpid())
    tree.read()
    clock.now, clock.children, clock.cpu = 104.0, [7], {os.getpid(): 5.0, 7: 3.0}
    assert tree.read().cpu_percent == 0.0
    clock.now, clock.cpu = 105.0, {os.getpid(): 5.0, 7: 4.0}
    assert tree.read().cpu_percent == 100.0


def test_tree_searches_for_children_every_three_seconds(clock: Any) -> None:
    tree = ProcessTree(os.getpid())
    for clock.now in (100.0, 101.0, 102.5, 103.0, 104.0):
        tree.read()
    assert clock.searches == 2


def test_tree_searches_less_often_where_a_search_is_expensive(clock: Any) -> None:
    clock.search_cost = 0.0625
    tree = ProcessTree(os.getpid())
    for clock.now in (100.0, 104.0, 131.0, 131.25):
        tree.read()
    assert clock.searches == 2


def test_tree_that_may_not_be_read_is_a_note(clock: Any) -> None:
    clock.cpu[os.getpid()] = psutil.AccessDenied(os.getpid(), name="server")
    reading = ProcessTree(os.getpid()).read()
    assert (reading.rss_mb, reading.pids) == (None, frozenset())
    assert str(reading.note).startswith(f"process {os.getpid()} cannot be read (")


def test_tree_child_that_may_not_be_read_is_a_note_and_the_rest_counts(clock: Any) -> None:
    clock.children = [7, 8, 9]
    clock.cpu |= {7: psutil.AccessDenied(7), 8: psutil.NoSuchProcess(8), 9: 1.0}
    reading = ProcessTree(os.getpid()).read()
    assert (reading.rss_mb, reading.pids) == (2.0, frozenset({os.getpid(), 9}))
    assert reading.note == "1 child processes cannot be read"
