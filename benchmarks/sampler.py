"""What the hardware sampler costs: CPU time of its thread as a share of one core.

    python benchmarks/sampler.py [seconds]

Four cases: the system alone, a small process tree, a large one, and a machine with many processes, where each search
for children is expensive.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

from pytest_modellens.hardware.sampler import HardwareSampler

if TYPE_CHECKING:
    from collections.abc import Iterator

PARENT = """
import subprocess, sys, time
children = [subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(3600)"]) for _ in range({children})]
print("ready", flush=True)
sys.stdin.read()
for child in children:
    child.kill()
"""


@contextmanager
def tree(children: int) -> Iterator[int]:
    """Give the id of a process that has so many children."""
    command = [sys.executable, "-S", "-c", PARENT.format(children=children)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        try:
            yield parent.pid
        finally:
            parent.communicate()


def measure(title: str, seconds: float, pid: int | None) -> None:
    """Print one row of the table."""
    began = time.perf_counter()
    with HardwareSampler(0.5, pid=pid) as sampler:
        time.sleep(seconds)
    elapsed = time.perf_counter() - began
    at = [row["at_ms"] for row in sampler.series]
    gap = statistics.median(b - a for a, b in pairwise(at))
    share, each = 100 * sampler.cpu_s / elapsed, 1e3 * sampler.cpu_s / len(at)
    print(f"{title:38} {len(at):7d} {gap:12.0f} {each:12.2f} {share:12.3f}")


def main() -> None:
    """Print the table."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    print(f"{'case':38} {'samples':>7} {'gap [ms]':>12} {'each [ms]':>12} {'core [%]':>12}")
    measure("system only", seconds, None)
    with tree(2) as pid:
        measure("process and 2 children", seconds, pid)
    with tree(30) as pid:
        measure("process and 30 children", seconds, pid)
    with tree(400), tree(2) as pid:
        measure("process and 2 children, 400 strangers", seconds, pid)


if __name__ == "__main__":
    main()
