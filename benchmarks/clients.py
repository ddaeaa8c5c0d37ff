"""How exact and how cheap our client is, beside requests, httpx and aiohttp, against a server with known send times.

    python benchmarks/clients.py [--quick] [--tokenizer FOLDER] [--json FILE]

Each client does the same work in a process of its own, on one core, with the server on another: so many streams, all
started together, which is the worst case. What the client saw is compared with the server's own log, token by token.
With the files of any tokenizer, `vllm bench serve`, guidellm and aiperf do it too, where they are installed; they are
judged by what they report. Needs Linux, two cores, a C compiler, and for the rivals `pip install httpx aiohttp`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script, it is not there

from benchmarks.client_runs import CLIENTS
from benchmarks.known_server import KnownServer, Sent, known_server
from benchmarks.startup import child_environment
from benchmarks.tools import TOOLS, Asked, compare_tool, find_tools, print_tools

ROOT = Path(__file__).resolve().parent.parent
GAP_MS = 10.0
FIRST_MS = 50.0
CEILING_GAP_MS = 0.5
TIMEOUT_S = 240
CALM_PCT = 1.0
"""A run is disturbed when others use more of a core. Time that the host takes away counts, too: a hundredth of two
seconds is two tokens of each stream."""
OWN_CLOCK = "bare, by its own clock"
"""The first client's answers once more, timed by when it read them instead of by the kernel's stamps."""
Row = dict[str, float | None]


def run_client(name: str, work: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return what the client saw."""
    result = folder / "result.json"
    result.unlink(missing_ok=True)
    script = str(ROOT / "benchmarks" / "client_runs.py")
    command = [sys.executable, script, name, json.dumps({**work, "spawned_ns": time.perf_counter_ns()}), str(result)]
    environment = child_environment(folder / "pycache")
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        try:
            if work["cores"] is not None:
                # Two processes need both; the server then shares its own with one of them.
                os.sched_setaffinity(run.pid, set(work["cores"][name != "workers" :]))
            said, _ = run.communicate(timeout=TIMEOUT_S)
        except BaseException:
            run.kill()
            raise
    if run.returncode != 0:
        sys.exit(f"{name}: failed\n{said[-4000:]}")
    seen: dict[str, Any] = json.loads(result.read_text())
    return seen


def compare(answers: list[tuple[int, list[int]]], log: dict[int, Sent]) -> Row:
    """Return a client's errors against the log, in ms where the name does not say otherwise."""
    for serial, tokens in answers:
        if len(tokens) != len(log[serial].tokens_ns):
            sys.exit(f"answer {serial}: {len(tokens)} tokens seen, {len(log[serial].tokens_ns)} sent")
    sent = [log[serial] for serial, _ in answers]
    true_ttft = np.array([one.tokens_ns[0] - one.arrival_ns for one in sent]) / 1e6
    seen_ttft = np.array([tokens[0] for _, tokens in answers]) / 1e6
    true_gaps = np.concatenate([np.diff(one.tokens_ns) for one in sent]) / 1e6
    seen_gaps = np.concatenate([np.diff(tokens) for _, tokens in answers]) / 1e6
    error = seen_ttft - true_ttft
    return {
        "ttft_mean_error_pct": float(100 * (seen_ttft.mean() / true_ttft.mean() - 1)),
        "ttft_p50_error": float(np.percentile(error, 50)),
        "ttft_p99_error": float(np.percentile(error, 99)),
        "itl_p99_true": float(np.percentile(true_gaps, 99)),
        "itl_p99_error": float(np.percentile(seen_gaps, 99) - np.percentile(true_gaps, 99)),
        "gap_p99_error": float(np.percentile(np.abs(seen_gaps - true_gaps), 99)),
        "log_p99_doubt": float(np.percentile(np.concatenate([one.doubt_ns for one in sent]), 99) / 1e6),
    }


def measure(name: str, work: dict[str, Any], folder: Path, server: KnownServer) -> dict[str, Row]:
    """Return the rows of one run of one client."""
    server.take_log()
    seen = run_client(name, work, folder)
    log = server.take_log()
    tokens = sum(len(times) for _, times in seen["answers"])
    row: Row = {
        **compare(seen["answers"], log),
        "cpu_us_per_token": 1e6 * seen["cpu_s"] / tokens,
        "receiving_us_per_token": 1e6 * seen["receiving_cpu_s"] / tokens if "receiving_cpu_s" in seen else None,
        "tokens_per_s": tokens / seen.get("receiving_s", seen["wall_s"]),
        "peak_mb": seen["peak_mb"],
        "startup_s": seen["startup_s"],
        "first_s": seen.get("first_s"),
        "finishing_s": seen.get("finishing_cpu_s"),
        "coalesced_pct": 100 * seen["coalesced_reads"] / seen["reads"] if "coalesced_reads" in seen else None,
        "tokens_per_read": tokens / seen["reads"] if "reads" in seen else None,
        "others_pct": max((0.0, *(100 * others / seen["wall_s"] for others in seen["others_s"]))),
    }
    rows = {name: row}
    if seen["own_clock"]:
        rows[OWN_CLOCK] = compare(seen["own_clock"], log)
    return rows


def calmest(name: str, tries: int, work: dict[str, Any], folder: Path, server: KnownServer) -> dict[str, Row]:
    """Return the first run that had its cores to itself, or else, of so many, the one that came nearest to it."""
    best: dict[str, Row] | None = None
    for _ in range(tries):
        rows = measure(name, work, folder, server)
        others = rows[name]["others_pct"] or 0.0
        if best is None or others < (best[name]["others_pct"] or 0.0):
            best = rows
        if others < CALM_PCT:
            break
    assert best is not None
    return best


def add_ratios(rows: dict[str, Row]) -> None:
    """Divide each client's costs by the floor's of the same run: the machine's own speed is not in that."""
    floor = rows.get("floor")
    if floor is None:
        return
    for row in rows.values():
        for key in ("cpu", "receiving"):
            value, least = row.get(f"{key}_us_per_token"), floor[f"{key}_us_per_token"]
            row[f"{key}_over_floor"] = value / least if value is not None and least else None


def median(rows: list[Row]) -> Row:
    """Return the median of each column."""
    return {key: None if rows[0][key] is None else float(np.median([row[key] for row in rows])) for key in rows[0]}


COLUMNS = (
    ("TTFT mean", "%", "ttft_mean_error_pct", "+.1f"),
    ("TTFT p50", "ms", "ttft_p50_error", "+.2f"),
    ("TTFT p99", "ms", "ttft_p99_error", "+.2f"),
    ("ITL p99", "ms", "itl_p99_error", "+.2f"),
    ("CPU", "µs/token", "cpu_us_per_token", ".1f"),
    ("receiving", "µs/token", "receiving_us_per_token", ".1f"),
    ("CPU", "of the floor's", "cpu_over_floor", ".2f"),
    ("receiving", "of the floor's", "receiving_over_floor", ".2f"),
    ("peak", "MB", "peak_mb", ".0f"),
    ("start", "s", "startup_s", ".2f"),
    ("first request", "s", "first_s", ".2f"),
    ("coalesced", "% of reads", "coalesced_pct", ".1f"),
    ("others", "% of core", "others_pct", ".0f"),
)


def print_table(concurrency: int, rows: dict[str, Row]) -> None:
    """Print the rows of one concurrency as a Markdown table."""
    print(f"\n{concurrency} stream{'s' * (concurrency > 1)}\n")
    print("| client |", " | ".join(f"{title} [{unit}]" for title, unit, _, _ in COLUMNS), "|")
    print("|---|", "---:|" * len(COLUMNS), sep="")
    for name, row in rows.items():
        title = CLIENTS[name][0] if name in CLIENTS else f"ours, {name}"
        values = (row.get(key) for _, _, key, _ in COLUMNS)
        cells = ["-" if value is None else format(value, c[3]) for value, c in zip(values, COLUMNS, strict=True)]
        print(f"| {title} |", " | ".join(cells), "|", flush=True)


def arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small: some seconds in all, to see that it works")
    parser.add_argument("--streams", type=int, nargs="+", metavar="N", help="concurrent streams (1 16 64 256)")
    parser.add_argument("--clients", nargs="*", choices=CLIENTS, metavar="NAME", help=f"of {', '.join(CLIENTS)} (all)")
    parser.add_argument("--tokens", type=int, help="tokens of an answer (64)")
    parser.add_argument("--repeats", type=int, help="runs of each client, in turn; medians are shown (3)")
    parser.add_argument("--tries", type=int, help="runs at most for one that nothing else on the machine disturbs (3)")
    parser.add_argument("--tokenizer", metavar="FOLDER", help="a tokenizer's files: load tools that are found run too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run there")
    given = parser.parse_args()
    given.streams = given.streams or ([1, 16] if given.quick else [1, 16, 64, 256])
    given.tokens = given.tokens or (16 if given.quick else 64)
    given.tries = given.tries or (1 if given.quick else 3)
    given.repeats = given.repeats or (1 if given.quick else 3)
    asked = list(CLIENTS) if given.clients is None else given.clients
    given.clients = [name for name in asked if name not in ("httpx", "aiohttp") or find_spec(name)]
    return given


def ceiling(names: list[str], folder: Path, pair: tuple[int, int] | None, tokens: int) -> None:
    """Print how many tokens a second our client can receive, and the floor, from a server that sends all it can."""
    print(f"\nCeiling, 256 streams, a token every {CEILING_GAP_MS} ms in each if the server could")
    with known_server(folder, first_ms=FIRST_MS, gap_ms=CEILING_GAP_MS, core=pair[0] if pair else None) as server:
        work = {"url": server.url, "concurrency": 256, "requests": 512, "tokens": 8 * tokens}
        for name in names:
            row = calmest(name, 3, {**work, "cores": pair, "server_pid": server.pid}, folder, server)[name]
            print(
                f"  {CLIENTS[name][0]}: {row['tokens_per_s']:,.0f} tokens/s received at "
                f"{row['receiving_us_per_token']:.1f} µs/token, {row['tokens_per_read']:.1f} tokens a read"
            )


def tools(options: argparse.Namespace, folder: Path, pair: tuple[int, int] | None) -> dict[str, Any]:
    """Run the load tools that are installed, print a table for each number of streams, and return its rows."""
    found = {name: find_tools().get(name) for name in TOOLS}
    missing = [TOOLS[name].title for name, program in found.items() if program is None]
    if missing:
        print(f"\nNot installed: {', '.join(missing)}")
    core = pair[0] if pair else None
    everything = {}
    with known_server(folder, first_ms=FIRST_MS, gap_ms=GAP_MS, core=core, names_role=False) as server:
        for streams in options.streams:
            tokenizer = str(Path(options.tokenizer).resolve())
            asked = Asked(server.url, streams, streams * (8 if streams == 1 else 3), options.tokens, tokenizer)
            rows = {
                name: compare_tool(name, program, asked, folder, server, pair[1] if pair else None)
                for name, program in found.items()
                if program is not None
            }
            print(f"\n{streams} stream{'s' * (streams > 1)}, by their own reports")
            print_tools(rows)
            everything[str(streams)] = rows
    return everything


def main() -> None:
    """Run everything and print a table for each number of streams."""
    options = arguments()
    cores = sorted(os.sched_getaffinity(0))
    pair = (cores[0], cores[-1]) if len(cores) > 1 else None
    if pair is None:
        print("only one core: server and clients share it, so the errors hold the server's own work too")
    written: dict[str, Any] = {"first_ms": FIRST_MS, "gap_ms": GAP_MS, "runs": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.clients:
            written["runs"] = clients(options, folder, pair)
        if not options.quick:
            ceiling([name for name in ("floor", "bare") if name in options.clients], folder, pair, options.tokens)
        if options.tokenizer:
            written["tools"] = tools(options, folder, pair)
    if options.json:
        options.json.write_text(json.dumps(written, indent=1))


def clients(options: argparse.Namespace, folder: Path, pair: tuple[int, int] | None) -> dict[str, list[dict[str, Row]]]:
    """Run the clients, print a table for each number of streams, and return every run's rows."""
    everything: dict[str, list[dict[str, Row]]] = {}
    with known_server(folder, first_ms=FIRST_MS, gap_ms=GAP_MS, core=pair[0] if pair else None) as server:
        for client in options.clients:  # once unseen: it writes the byte code
            small = {"url": server.url, "concurrency": 1, "requests": 1, "tokens": 2, "cores": pair}
            run_client(client, {**small, "server_pid": server.pid}, folder)
        for concurrency in options.streams:
            requests = concurrency * (8 if concurrency == 1 else 3)
            work = {"url": server.url, "concurrency": concurrency, "requests": requests, "tokens": options.tokens}
            work |= {"cores": pair, "server_pid": server.pid}
            runs: list[dict[str, Row]] = []
            for _ in range(options.repeats):
                rows: dict[str, Row] = {}
                for client in options.clients:
                    rows |= calmest(client, options.tries, work, folder, server)
                add_ratios(rows)
                runs.append(rows)
            everything[str(concurrency)] = runs
            print_table(concurrency, {client: median([run[client] for run in runs]) for client in runs[0]})
            doubts = [row["log_p99_doubt"] or 0.0 for run in runs for row in run.values()]
            print(f"\nThe log itself is exact to {1e3 * float(np.median(doubts)):.0f} µs (p99).")
    return everything


if __name__ == "__main__":
    main()
