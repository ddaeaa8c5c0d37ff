"""The gate on a real server: against itself, and against itself made slower by a known share.

    python benchmarks/gate_real.py [--runs 10] [--slow-runs 10] [--slower 10]
    python benchmarks/gate_real.py --restarts [--runs 10]

Each run starts the embedded model twice, each server behind a proxy that can stretch time: a piece of an answer that
arrives t after its request is passed on after t × stretch. Both proxies do the same work, so that what is stretched is
all that differs, but for the two starts. Then pytest measures them side by side, `--runs` times unchanged and
`--slow-runs` times with the candidate's tokens per second lower by `--slower` per cent; the verdicts are printed. With
`--restarts`, pytest starts the embedded model itself, both servers anew for each block, unchanged and without a proxy.
Needs the extra `local`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pytest_modellens.embedded.server import EmbeddedServer
from pytest_modellens.embedded.weights import find_weights

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from pytest_modellens.embedded.weights import Weights

SUITE = """
defaults: {{max_tokens: {tokens}, warmup: 1}}
cases:
- {{name: sea, prompt: Describe the sea in one long sentence.}}
- {{name: recipe, prompt: Write down a recipe for bread.}}
- {{name: history, prompt: Tell the history of printing.}}
"""


class Stretched:
    """A server behind a proxy on a free port of 127.0.0.1."""

    def __init__(self, server_url: str) -> None:
        target = urlsplit(server_url)
        self._target = (target.hostname, target.port)
        self._path = target.path
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._port = 0
        self.stretch = 1.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}{self._path}"

    def __enter__(self) -> Self:
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop)
        self._port = starting.result().sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(*self._target)
        asked = [0.0]
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def ask() -> None:
            while data := await reader.read(65536):
                asked[0] = self._loop.time()
                up_writer.write(data)
                await up_writer.drain()
            up_writer.close()

        async def hear() -> None:
            while data := await up_reader.read(65536):
                now = self._loop.time()
                waiting.put_nowait((asked[0] + (now - asked[0]) * self.stretch, data))
            waiting.put_nowait((0.0, b""))

        async def answer() -> None:
            while True:
                at, data = await waiting.get()
                if not data:
                    break
                await asyncio.sleep(max(0.0, at - self._loop.time()))
                writer.write(data)
                await writer.drain()
            writer.close()

        with suppress(OSError):
            await asyncio.gather(ask(), hear(), answer())


def measure(folder: Path, candidate: str, baseline: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run pytest and return what its run.json says."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "suites"]
    command += ["--provider", candidate, "--modellens-ab", baseline, "--modellens-report", "off"]
    command += ["--modellens-gate", f"tokens_per_second:-{options.limit:g}%", "--modellens-blocks", options.blocks]
    before = {*folder.glob("results/*/run.json")}
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    made = {*folder.glob("results/*/run.json")} - before
    if len(made) != 1:
        raise SystemExit(result.stdout + result.stderr)
    found: dict[str, Any] = json.loads(made.pop().read_text(encoding="utf-8"))
    return found | {"exit": result.returncode}


def measure_pair(folder: Path, weights: Weights, stretch: float, options: argparse.Namespace) -> dict[str, Any]:
    """Start both servers, stretch the candidate's time, and return what the run's run.json says."""
    with ExitStack() as stack:
        # Two starts of one server may differ by more than all the requests of a run do: each run has its own.
        servers = [stack.enter_context(EmbeddedServer(weights)) for _ in range(2)]
        baseline, candidate = (stack.enter_context(Stretched(server.url)) for server in servers)
        candidate.stretch = stretch
        return measure(folder, f"llamacpp={candidate.url}", baseline.url, options)


def row(number: int, slower: float, run: dict[str, Any], took_s: float, cases: int) -> str:
    gate = run["gate"]
    text = (
        f"{number:3}  {slower:5.1f} %  {gate['name']:12} {run['exit']:4}  {gate['blocks']:6} {gate['blocks'] * cases:9}"
    )
    metrics = (gate["verdict"] or {"metrics": []})["metrics"]
    if metrics and metrics[0]["estimate"] is not None:
        low, estimate, high = (100 * metrics[0][name] for name in ("low", "estimate", "high"))
        text += f"  {estimate:+6.1f} % ({low:+6.1f} to {high:+6.1f})"
    return f"{text}  {took_s:5.0f} s".replace("-", "−")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10, help="runs without any change (default: 10)")
    parser.add_argument("--slow-runs", type=int, default=10, help="runs with a slowdown (default: 10)")
    parser.add_argument("--slower", type=float, default=10.0, help="per cent of tokens per second (default: 10)")
    parser.add_argument("--limit", type=float, default=5.0, help="of the gate, in per cent (default: 5)")
    parser.add_argument("--tokens", type=int, default=16, help="tokens per answer (default: 16)")
    parser.add_argument("--blocks", default="6,12,20,40", help="looks (default: 6,12,20,40)")
    parser.add_argument("--restarts", action="store_true", help="servers started anew for each block, unchanged")
    options = parser.parse_args()
    if options.restarts:
        options.slow_runs = 0
    suite = SUITE.format(tokens=options.tokens)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "suites").mkdir()
        (folder / "suites" / "chat.yaml").write_text(suite, encoding="utf-8")
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        weights = find_weights(None)
        cases = suite.count("- {name")
        print(f"{weights.name}, {cases} cases, {options.tokens} tokens, limit {options.limit:g} %")
        print("run  slower   verdict      exit  blocks  requests  change (90 % interval)          took")
        for slower, runs in ((0.0, options.runs), (options.slower, options.slow_runs)):
            names = []
            for number in range(1, runs + 1):
                began = time.perf_counter()
                if options.restarts:
                    run = measure(folder, "local", "local", options)
                else:
                    run = measure_pair(folder, weights, 1 / (1 - slower / 100), options)
                names.append(run["gate"]["name"])
                print(row(number, slower, run, time.perf_counter() - began, cases), flush=True)
            told = ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))
            if names:
                print(f"{runs} runs, slower by {slower:g} %: {told}", flush=True)


if __name__ == "__main__":
    main()
