"""A report on a run of a million requests: seconds, memory, and whether its numbers are numpy's.

    python benchmarks/report_scale.py [--requests N] [--folder DIR]

Makes a run of N requests (1,000,000 by default, 32 tokens each, four cells) in a temporary folder, or keeps it in DIR
for the next time. Writes its report without a cache, from it, and without pyarrow, each with and without CSV, in
processes of their own; compares what they say with each other, and percentiles with numpy's over the same values.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from pytest_modellens.record import Record, to_json

DISTINCT = 4000
CELLS = 4
TOKENS = 32
REPORTS = {
    "first": [],
    "second": [],
    "first, with CSV": ["--csv"],
    "second, with CSV": ["--csv"],
    "without pyarrow": [],
    "without pyarrow, with CSV": ["--csv"],
}
"""Of each, what is asked for; "first" begins without a cache."""
COMMAND = "import sys; from pytest_modellens.cli import main; sys.exit(main(sys.argv[1:]))"
HIDDEN = "import sys; sys.modules['pyarrow'] = None; "


def make(seed: int) -> dict[str, Any]:
    source = random.Random(seed)
    ttft = source.lognormvariate(5, 0.3)
    gaps = [source.lognormvariate(2.5, 0.2) for _ in range(TOKENS - 1)]
    at = np.cumsum([ttft, *gaps])
    record = Record(
        suite="suites/load.yaml",
        case="steady",
        params={"concurrency": 2 ** (seed % CELLS)},
        provider="vllm",
        model="tiny",
        round=seed,
        started_at="2026-11-21T20:30:00.000+00:00",
        ok=True,
        status=200,
        response="word " * TOKENS,
        finish_reason="length",
        ttft_ms=ttft,
        ttfo_ms=ttft,
        total_time_ms=float(at[-1]),
        tpot_ms=float(np.mean(gaps)),
        tokens_per_second=1000 / float(np.mean(gaps)),
        tokens_per_second_mode="generation",
        e2e_tokens_per_second=1000 * TOKENS / float(at[-1]),
        inter_chunk_ms=gaps,
        itl_ms=gaps,
        prompt_tokens=100,
        completion_tokens=TOKENS,
        total_tokens=100 + TOKENS,
        tokens_source="usage",
        clock="kernel",
        sent_ns=seed * 1_000_000,
        ended_ns=seed * 1_000_000 + int(at[-1] * 1e6),
        timeline={
            "scheduled_ns": 0,
            "headers_ns": 1_000_000,
            "ended_ns": int(at[-1] * 1e6),
            "event_ns": [int(ms * 1e6) for ms in at],
            "event_kind": ["content"] * TOKENS,
            "event_tokens": [1] * TOKENS,
            "event_has_content": [True] * TOKENS,
        },
    )
    return to_json(record)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the run is kept (default: a temporary folder)")
    given = parser.parse_args()
    records = [make(seed) for seed in range(DISTINCT)]
    whole, rest = divmod(given.requests, DISTINCT)
    with tempfile.TemporaryDirectory() if given.folder is None else nullcontext(given.folder) as place:
        folder = Path(place) / "20261121T203000Z-scale"
        write(folder, [msgspec.json.encode(record) + b"\n" for record in records], whole, rest)
        print(f"{given.requests:,} requests, {(folder / 'requests.jsonl').stat().st_size / 1e9:.2f} GB")
        print(f"{'report':28}{'wall s':>8}{'CPU s':>8}{'MB':>7}")
        made = {name: report(folder, name, options) for name, options in REPORTS.items()}
        cache = folder / ".requests.parquet"
        print(f"page {(folder / 'report.html').stat().st_size / 1e3:,.0f} KB")
        print(f"cache {cache.stat().st_size / 1e6:,.0f} MB" if cache.exists() else "no cache: pyarrow is not installed")
        print("all reports alike" if len({*made.values()}) == 1 else "REPORTS DIFFER")
        compare(json.loads(made["first"])["cells"], records, whole, rest)


def write(folder: Path, lines: list[bytes], whole: int, rest: int) -> None:
    """Write a run of `whole` times the lines and `rest` of them, where it is not there yet."""
    requests = folder / "requests.jsonl"
    size = whole * sum(map(len, lines)) + sum(map(len, lines[:rest]))
    if requests.exists() and requests.stat().st_size == size:
        return
    folder.mkdir(parents=True, exist_ok=True)
    with requests.open("wb") as file:
        for _ in range(whole):
            file.writelines(lines)
        file.writelines(lines[:rest])
    (folder / "run.json").write_text(json.dumps({"ended_at": "2026-11-21T21:30:00+00:00"}))
    time.sleep(3)  # a file that was written just now gets no cache


def report(folder: Path, name: str, options: list[str]) -> str:
    """Write a report in a process of its own, print what it took, and return its numbers."""
    if name.startswith("first"):
        (folder / ".requests.parquet").unlink(missing_ok=True)
    summary = folder / "summary.json"
    code = HIDDEN * name.startswith("without") + COMMAND
    command = [sys.executable, "-c", code, "report", str(folder), "--json", str(summary), *options]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"the report ended with {process.returncode}")
    print(f"{name:28}{wall:8.1f}{used.ru_utime + used.ru_stime:8.1f}{used.ru_maxrss / 1024:7,.0f}", flush=True)
    return summary.read_text()


def compare(cells: list[dict[str, Any]], records: list[dict[str, Any]], whole: int, rest: int) -> None:
    """Print how far the report's numbers are from numpy's over all values of each cell."""
    worst = 0.0
    for cell in cells:
        place = json.loads(cell["params"])
        mine = [record for number, record in enumerate(records) if record["params"] == place]
        more = [record for number, record in enumerate(records[:rest]) if record["params"] == place]
        for metric in ("ttft_ms", "tokens_per_second"):
            values = np.array([record[metric] for record in mine] * whole + [record[metric] for record in more])
            for p in (50, 95, 99):
                worst = max(worst, abs(cell[f"{metric}_p{p}"] / float(np.percentile(values, p)) - 1))
    print(f"largest difference of a percentile from numpy's: {worst:.1e}")


if __name__ == "__main__":
    main()
