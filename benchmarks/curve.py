"""A throughput–latency curve of the embedded model, our numbers beside those of the server itself.

    python benchmarks/curve.py

Measures `benchmarks/curve.yaml` with `--provider local`: some 11,000 tokens. The server's numbers are its token counter
over the time between the pages before and after the load (`/metrics`), and the timings that llama.cpp sends with each
answer: prefill, and decoding from the first token to the last. Prefill is less than the time to first token where the
request had to wait for a batch under way.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pytest_modellens.storage import list_runs, read_run

SUITE = Path(__file__).with_suffix(".yaml")
HEADER = (
    "in flight",
    "tokens, ours",
    "server",
    "tok/s, ours",
    "server",
    "differ",
    "TPOT, ours [ms]",
    "server",
    "differ",
    "TTFT, ours [ms]",
    "prefill, server",
)


def row(records: list[dict[str, Any]], series: list[dict[str, Any]]) -> list[str]:
    """Return one row of the table: a cell's records, and what the server's page said around it."""
    tokens = sum(record["completion_tokens"] for record in records)
    ours_s = (max(r["ended_ns"] for r in records) - min(r["sent_ns"] for r in records)) / 1e9
    before, after = series[0], series[-1]
    counted = after["generation_tokens"] - before["generation_tokens"]
    server_s = (after["at_ms"] - before["at_ms"]) / 1000
    measured = [record for record in records if record["phase"] == "measured"]
    timings = [record["server_timings"] for record in measured]
    decode = [t["server_decode_ms"] / (r["completion_tokens"] - 1) for r, t in zip(measured, timings, strict=True)]
    return [
        str(measured[0]["concurrency"]),
        f"{tokens}",
        f"{counted:.0f}",
        *_beside(tokens / ours_s, counted / server_s),
        *_beside(statistics.mean(record["tpot_ms"] for record in measured), statistics.mean(decode)),
        f"{statistics.mean(record['ttft_ms'] for record in measured):.0f}",
        f"{statistics.mean(timing['server_prefill_ms'] for timing in timings):.0f}",
    ]


def _beside(ours: float, server: float) -> tuple[str, str, str]:
    return f"{ours:.2f}", f"{server:.2f}", f"{100 * (ours / server - 1):+.2f} %"


def main() -> int:
    """Measure, print the table, and return pytest's exit status."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(SUITE), "--provider", "local"]
        status = subprocess.run([*command, f"--modellens-results={folder}"], check=False, stdout=sys.stderr).returncode
        runs = list_runs(Path(folder))
        if not runs:
            return status
        run = read_run(runs[0].folder)
        lines = (run.folder / "server.jsonl").read_text(encoding="utf-8").splitlines()
    print("| " + " | ".join(HEADER) + " |")
    print("|" + "---:|" * len(HEADER))
    for cell in map(json.loads, lines):
        records = [record for record in run.records if record["params"] == cell["params"]]
        print("| " + " | ".join(row(records, cell["series"])) + " |")
    return status


if __name__ == "__main__":
    sys.exit(main())
