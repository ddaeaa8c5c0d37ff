"""What commands on a recorded run of many requests take: seconds of one core, and memory at most.

    python benchmarks/commands_scale.py [--requests N]

Requests of a load on the truth server (32 are measured, and repeated to N, 100,000 by default) are a run with a
cassette in a temporary folder; five sessions of 2,000 requests are its baseline. Each command runs in a process of its
own, whose most memory is what the kernel says, pages of mapped files included.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pytest_modellens.cassette.tape import TapeReader, TapeWriter, packed
from pytest_modellens.cassette.writer import Cassette, make_folder
from pytest_modellens.cli import main as command
from pytest_modellens.providers.registry import create_provider
from pytest_modellens.record import to_json
from pytest_modellens.runner import CellRun
from pytest_modellens.storage import RunFolder
from pytest_modellens.suite.loader import load_suite
from pytest_modellens.truth.client import TruthServer

ONCE, SESSIONS, OF_SESSION = 32, 5, 2_000
MODEL = "truth:steady"


def measured(folder: Path) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Return the records of a small load and their raw bytes, in the same order."""
    suite = folder / "load.yaml"
    suite.write_text(f"cases:\n- {{name: a, prompt: hi, load: {{concurrency: 4, requests: {ONCE}, warmup: 0}}}}\n")
    (cell,) = load_suite(suite).cells()
    cassette = Cassette(make_folder(folder, "once"), "main", limit_bytes=2**30)
    with TruthServer() as server:
        run = CellRun(
            create_provider("openai", base_url=server.url), cell, suite="load.yaml", model=MODEL, cassette=cassette
        )
        run.run()
    cassette.close()
    (path,) = folder.glob("once/*.cassette")
    records = [to_json(record) for record in run.records]
    with TapeReader(path) as tape:
        return records, [tape.read(int(record["cassette"].rpartition(":")[2])) for record in records]


def make(results: Path, name: str, count: int, records: list[dict[str, Any]], tape: Path | None = None) -> Path:
    """Write a run of `count` requests; the raw bytes that the records name are in `tape`."""
    meta: dict[str, Any] = {"exit_status": 0, "ended_at": "2026-11-21T21:30:00+00:00"}
    if tape is not None:
        meta["cassette"] = {"folder": str(tape.parent)}
    at = datetime(2026, 11, 21, 20, tzinfo=UTC) + timedelta(hours=len([*results.glob("*")]))
    with RunFolder.create(results, name, now=at) as folder:
        folder.append({**records[number % len(records)], "round": number, "invalid": None} for number in range(count))
        folder.write_run(meta)
    return folder.path


def taped(path: Path, count: int, records: list[dict[str, Any]], entries: list[bytes]) -> list[dict[str, Any]]:
    """Write a cassette of `count` entries to `path`, and return records that name them."""
    path.parent.mkdir()
    writer = TapeWriter(path)
    ready = [packed(entry) for entry in entries]
    links = [f"{path.name}:{writer.append(ready[number % len(ready)])}" for number in range(count)]
    writer.close()
    return [{**records[number % len(records)], "cassette": link} for number, link in enumerate(links)]


def watched(*arguments: str) -> None:
    """Run a command of ours, and print what it took."""
    line = [sys.executable, "-m", "pytest_modellens.cli", *arguments]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    said = process.stdout.read().decode()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in {0, 3}:
        sys.exit(said)
    print(f"| `modellens {' '.join(arguments[:2]) if arguments[0] == 'baseline' else arguments[0]}` ", end="")
    print(f"| {used.ru_utime + used.ru_stime:.1f} | {used.ru_maxrss / 1024:,.0f} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    count = parser.parse_args().requests
    with tempfile.TemporaryDirectory() as name:
        folder, results = Path(name), Path(name) / "results"
        records, entries = measured(folder)
        for _ in range(SESSIONS):
            session = make(results, "session", OF_SESSION, records)
            command(["baseline", "add", session.name, "--results", str(results)])
        tape = folder / "many" / "main.cassette"
        run = make(results, "many", count, taped(tape, count, records, entries), tape)
        megabytes = [path.stat().st_size / 1e6 for path in (run / "requests.jsonl", tape)]
        print(f"\n{count:,} requests, {megabytes[0]:,.0f} MB of requests.jsonl, {megabytes[1]:,.0f} MB of cassette\n")
        print("| command | s of one core | MB |\n|---|---:|---:|")
        where = ("--results", str(results))
        watched("gate", run.name, "--gate", "tokens_per_second:-5%", *where)
        watched("baseline", "add", run.name, *where)
        watched("recompute", run.name, *where)


if __name__ == "__main__":
    main()
