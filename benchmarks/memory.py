"""How much memory a long load takes, and whether it grows.

    python benchmarks/memory.py [--minutes 10] [--streams 64] [--gap 10]

The server with known send times gives each stream a token every 10 ms, 64 tokens an answer. First the load alone, whose
decoded answers are dropped, then a load cell of a suite under pytest, which keeps a record of each. Resident memory is
read every second. Needs Linux and a C compiler.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script, it is not there

from benchmarks.known_server import known_server
from benchmarks.startup import child_environment, pytest_command

ROOT = Path(__file__).resolve().parent.parent
FIRST_MS, TOKENS = 50.0, 64
ALONE = """
import sys
from itertools import repeat
from pytest_modellens.load.executor import execute
from pytest_modellens.load.plan import LoadPlan
from pytest_modellens.models import RunRequest
from pytest_modellens.providers.openai import OpenAIProvider
url, streams, seconds, tokens = sys.argv[1], *map(float, sys.argv[2:])
plan = LoadPlan(concurrency=int(streams), duration_s=seconds)
request = RunRequest("hello", "known", max_tokens=int(tokens), stream=True)
print(sum(done.reply.error is None for done in execute(OpenAIProvider(url), plan, repeat(request))))
"""


def watch(command: list[str], folder: Path) -> tuple[list[tuple[float, float]], str]:
    """Return (s, resident MB), about every second, until `command` ends, and what it printed."""
    resident = []
    began = time.monotonic()
    environment = child_environment(folder / "pycache")
    with (
        (folder / "said").open("w+") as said,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=subprocess.STDOUT) as process,
    ):
        try:
            while process.poll() is None:
                now = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
                resident += [(time.monotonic() - began, int(now[1]) / 1024)] if now else []
                time.sleep(1)
        except BaseException:
            process.kill()
            raise
        said.seek(0)
        text = said.read()
    if process.returncode not in {0, 1}:  # a busy machine may make the measurement invalid, which is no matter here
        sys.exit(text[-4000:])
    return resident, text


def row(title: str, resident: list[tuple[float, float]], requests: int, seconds: float) -> None:
    """Print one row: memory after a tenth of the load, at its end, and what the rest of it added per request."""
    at, resident_mb = np.array([pair for pair in resident if seconds / 10 <= pair[0] <= seconds]).T
    growth_mb = float(np.polyfit(at, resident_mb, 1)[0]) * seconds
    peak_mb = max(mb for _, mb in resident)
    values = f"{resident_mb[0]:.0f} | {resident_mb[-1]:.0f} | {1024 * growth_mb / requests:.2f} | {peak_mb:.0f}"
    print(f"| {title} | {requests} | {values} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--gap", type=float, default=10.0, metavar="MS", help="between two tokens of a stream")
    given = parser.parse_args()
    seconds = 60 * given.minutes
    print("| run | requests | MB after a tenth | MB at its end | KB per request | peak MB |")
    print("|---|---:|---:|---:|---:|---:|", flush=True)
    with (
        tempfile.TemporaryDirectory() as name,
        known_server(Path(name), first_ms=FIRST_MS, gap_ms=given.gap, core=None) as server,
    ):
        folder = Path(name)
        url = f"{server.url}/v1"
        resident, said = watch(
            [sys.executable, "-c", ALONE, url, f"{given.streams}", f"{seconds}", f"{TOKENS}"], folder
        )
        row("the load alone", resident, int(said), seconds)
        load = {"concurrency": given.streams, "duration": f"{seconds:g}s"}
        case = {"name": "long", "prompt": "hello", "max_tokens": TOKENS, "load": load}
        (folder / "long.suite.yaml").write_text(json.dumps({"cases": [case]}))  # JSON is YAML too
        (folder / "pytest.ini").write_text("[pytest]\n")
        options = ["-q", "--provider", "openai", "--modellens-base-url", url, "long.suite.yaml"]
        resident, _ = watch(pytest_command(*options), folder)
        (path,) = folder.glob("results/*/requests.jsonl")
        with path.open() as lines:
            requests = sum(1 for _ in lines)
        row("a load cell under pytest", resident, requests, seconds)
        print(f"\nIts requests.jsonl has {path.stat().st_size / requests / 1024:.1f} KB per request.")


if __name__ == "__main__":
    main()
