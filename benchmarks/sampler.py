"""What watching costs: CPU time of the hardware sampler's thread, and of fetching a server's metrics.

    python benchmarks/sampler.py [seconds]

Four cases of the sampler: the system alone, a small process tree, a large one, and a machine with many processes, where
each search for children is expensive. Then a page of 50 KB, as vLLM writes, once a second; there the CPU time is of the
whole process.
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
from pytest_modellens.hardware.scraper import ServerScraper
from pytest_modellens.providers.vllm import VLLMProvider

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


PAGE = """
from http.server import BaseHTTPRequestHandler, HTTPServer
page = b"vllm:num_requests_running 1.0\\n" + b'vllm:other_bucket{le="0.001",model_name="m"} 17.0\\n' * 1000
class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)
    def log_message(self, *_):
        pass
server = HTTPServer(("127.0.0.1", 0), Page)
print(server.server_address[1], flush=True)
server.serve_forever()
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


def measure_page(title: str, seconds: float) -> None:
    """Print the row of a server's Prometheus page."""
    with subprocess.Popen([sys.executable, "-c", PAGE], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        provider = VLLMProvider(f"http://127.0.0.1:{int(server.stdout.readline())}/v1")
        try:
            provider.metrics_page()  # what is imported for the first page is not what a page costs
            assert provider.server_metrics is not None
            before_s, began = time.process_time(), time.perf_counter()
            with ServerScraper(provider.metrics_page, provider.server_metrics) as scraper:
                time.sleep(seconds)
            cpu_s, elapsed = time.process_time() - before_s, time.perf_counter() - began
        finally:
            server.kill()
    count = len(scraper.series)
    gap = 1000 * elapsed / (count - 1)
    print(f"{title:38} {count:7d} {gap:12.0f} {1e3 * cpu_s / count:12.2f} {100 * cpu_s / elapsed:12.3f}")


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
    measure_page("a server's page of 50 KB", seconds)


if __name__ == "__main__":
    main()
