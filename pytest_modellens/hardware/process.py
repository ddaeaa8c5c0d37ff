"""The server's own processes: who listens on a port, and what that process and its children use."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psutil

__all__ = ["Listener", "ProcessTree", "TreeReading", "find_listener"]

REFRESH_S = 3.0
"""Shortest time between two searches for children."""
REFRESH_SHARE = 0.002
"""Share of one core that those searches may take: each one scans every process of the machine."""
MIN_SPAN_S = 0.1
"""Shortest time that a CPU share is computed over: the kernel counts CPU time in ticks of 10 ms."""

_LOCAL = {"127.0.0.1", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1"}  # noqa: S104  # compared with, never bound
_FORWARDERS = {"docker-proxy", "rootlessport", "com.docker.backend", "kubectl", "ssh", "sshd", "wslrelay.exe"}
_found: dict[int, psutil.Process] = {}
"""Listeners seen before, by port. Each is checked again before use, which is cheap; the search is not."""


@dataclass(frozen=True, slots=True)
class Listener:
    """The process that listens on a local TCP port, or why it is not known."""

    pid: int | None
    note: str | None


@dataclass(frozen=True, slots=True)
class TreeReading:
    """What a process and its children use at one instant."""

    cpu_percent: float | None
    """Since the reading before, 100 = one core busy; None at the first reading."""
    rss_mb: float | None
    """Resident memory, added up: pages that the processes share count once for each."""
    pids: frozenset[int]
    note: str | None
    """What could not be read, and why."""


def find_listener(port: int) -> Listener:
    """Return the process that listens on `port` of this machine. Never raises."""
    import psutil

    known = _found.get(port)
    if known is not None and known.is_running() and _listens(known, port):
        return Listener(known.pid, None)
    _found.pop(port, None)
    pids = _search(port)
    if not pids:
        return Listener(None, f"port {port}: no process of this machine listens there")
    try:
        # Workers inherit the socket of the process that started them, and the tree should begin at the latter.
        process = min((psutil.Process(pid) for pid in pids if pid is not None), key=lambda p: p.create_time())
        name = process.name()
    except ValueError:
        return Listener(None, f"port {port}: this user may not see which process listens")
    except psutil.Error as exc:
        return Listener(None, f"port {port}: the listening process cannot be read ({exc})")
    if name in _FORWARDERS:
        return Listener(None, f"port {port}: {name} forwards it, the server runs elsewhere")
    _found[port] = process
    return Listener(process.pid, None)


def _search(port: int) -> set[int | None]:
    import psutil

    found: list[tuple[tuple[str, int], int | None]]
    try:
        connections = psutil.net_connections(kind="tcp")
        found = [((c.laddr[0], c.laddr[1]), c.pid) for c in connections if c.status == psutil.CONN_LISTEN and c.laddr]
    except (psutil.Error, OSError, RuntimeError):
        # macOS asks for root to list all sockets, but not to list those of one's own processes.
        found = [(address, process.pid) for process in psutil.process_iter() for address in _listening(process)]
    here = [(address[0], pid) for address, pid in found if address[1] == port]
    return {pid for ip, pid in here if ip in _LOCAL} or {pid for _, pid in here}


def _listens(process: psutil.Process, port: int) -> bool:
    return any(address[1] == port for address in _listening(process))


def _listening(process: psutil.Process) -> Iterator[tuple[str, int]]:
    import psutil

    try:
        connections = process.net_connections(kind="tcp")
    except (psutil.Error, OSError, RuntimeError):
        return
    yield from ((c.laddr[0], c.laddr[1]) for c in connections if c.status == psutil.CONN_LISTEN and c.laddr)


class ProcessTree:
    """A process and all below it, looked at again and again; processes may come and go between readings."""

    def __init__(self, pid: int) -> None:
        """Follow `pid`.

        Raises:
            psutil.Error: there is no such process, or it may not be read.
        """
        import psutil

        self._root = psutil.Process(pid)
        self._children: list[psutil.Process] = []
        self._refresh_at_s = 0.0
        self._cpu_s: dict[int, float] = {}
        self._cpu_at_s: float | None = None

    def read(self) -> TreeReading:
        """Return what the tree uses now. Never raises: a process that ended or may not be read is in `note`."""
        import psutil

        try:
            self._refresh()
            uses = {self._root.pid: _use(self._root)}
        except psutil.NoSuchProcess:
            return TreeReading(None, None, frozenset(), f"process {self._root.pid} has ended")
        except (psutil.Error, OSError) as exc:
            return TreeReading(None, None, frozenset(), f"process {self._root.pid} cannot be read ({exc})")
        refused = 0
        for child in self._children:
            try:
                uses[child.pid] = _use(child)
            except psutil.NoSuchProcess:
                continue
            except (psutil.Error, OSError):
                refused += 1
        return TreeReading(
            cpu_percent=self._cpu_percent({pid: cpu_s for pid, (cpu_s, _) in uses.items()}),
            rss_mb=sum(rss for _, rss in uses.values()) / 2**20,
            pids=frozenset(uses),
            note=f"{refused} child processes cannot be read" if refused else None,
        )

    def _refresh(self) -> None:
        if time.perf_counter() < self._refresh_at_s:
            return
        before_s = time.thread_time()
        self._children = self._root.children(recursive=True)
        cost_s = time.thread_time() - before_s
        self._refresh_at_s = time.perf_counter() + max(REFRESH_S, cost_s / REFRESH_SHARE)

    def _cpu_percent(self, cpu_s: dict[int, float]) -> float | None:
        now_s = time.perf_counter()
        if self._cpu_at_s is None:
            self._cpu_s, self._cpu_at_s = cpu_s, now_s
            return None
        span_s = now_s - self._cpu_at_s
        if span_s < MIN_SPAN_S:
            return None
        # A child seen for the first time counts from here on: its past may lie before the reading before.
        used_s = sum(max(0.0, now - self._cpu_s[pid]) for pid, now in cpu_s.items() if pid in self._cpu_s)
        self._cpu_s, self._cpu_at_s = cpu_s, now_s
        return 100 * used_s / span_s


def _use(process: psutil.Process) -> tuple[float, int]:
    """Return CPU seconds and resident bytes."""
    import psutil

    with process.oneshot():
        if process.status() == psutil.STATUS_ZOMBIE:
            raise psutil.NoSuchProcess(process.pid)
        times = process.cpu_times()
        return times.user + times.system, process.memory_info().rss
