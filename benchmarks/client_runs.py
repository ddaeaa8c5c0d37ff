"""One client doing the benchmark's work, in a process of its own; `clients.py` starts it.

    python benchmarks/client_runs.py CLIENT WORK RESULT

Every client opens its connections before it is timed, keeps them, and notes for each answer the instant before it asked
and the instant of each token. Ours is run bare, through the closed loop, and as a user has it: a suite under pytest.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import select
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_modellens.measure.exchange import Exchange
    from pytest_modellens.measure.reply import Reply

PROMPT = "Shall I compare thee to a summer's day? " * 8
_SERIAL = re.compile(r"#(\d+)")
now_ns = time.perf_counter_ns


@dataclass
class Work:
    """What is to be done, and what came of it."""

    url: str
    concurrency: int
    requests: int
    tokens: int
    cores: tuple[int, int] | None
    """The server's and this process's; None when they share one."""
    server_pid: int
    spawned_ns: int
    answers: list[tuple[int, list[int]]] = field(default_factory=list)
    """(serial number, ns from asking to each token)."""
    own_clock: list[tuple[int, list[int]]] = field(default_factory=list)
    """The same by the instants at which our client read, without the kernel's stamps."""
    notes: dict[str, Any] = field(default_factory=dict)

    def body(self, *, warm: bool = False) -> dict[str, Any]:
        """Return the request; a warm-up's answer is one token long."""
        return {
            "model": "known",
            "messages": [{"role": "user", "content": PROMPT}],
            "max_tokens": 1 if warm else self.tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def ready(self) -> None:
        """Everything is imported and set up."""
        self.notes["startup_s"] = (now_ns() - self.spawned_ns) / 1e9

    def go(self) -> None:
        """The measured work begins."""
        self.notes["cpu_s"] = -_cpu_s()
        self.notes["wall_s"] = -now_ns() / 1e9
        self.notes["others_s"] = [-seconds for seconds in self._others_s()]

    def received(self) -> None:
        """All has been received; what follows is decoding."""
        self.notes["receiving_cpu_s"] = self.notes["cpu_s"] + _cpu_s()
        self.notes["receiving_s"] = self.notes["wall_s"] + now_ns() / 1e9

    def end(self) -> None:
        """The work is done."""
        self.notes["cpu_s"] += _cpu_s()
        self.notes["wall_s"] += now_ns() / 1e9
        self.notes["others_s"] = [a + b for a, b in zip(self.notes["others_s"], self._others_s(), strict=True)]
        self.notes["peak_mb"] = _peak_mb()

    def _others_s(self) -> list[float]:
        """Return how long both cores have worked for anybody but the server and this process."""
        if self.cores is None:
            return []
        server, client = self.cores
        return [_busy_s(server) - _process_cpu_s(self.server_pid), _busy_s(client) - _cpu_s()]


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in used)


def _peak_mb() -> float | None:
    # Not ru_maxrss, which starts from the parent's.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(peak[1]) / 1024 if peak else None


def _busy_s(core: int) -> float:
    """Return for how long `core` has been busy, whoever it was, or was taken away from this machine."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            user, nice, system, _, _, irq, softirq, steal, *_ = map(int, ticks)
            return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _process_cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Parsed:
    """The answer of a client that gives lines: they are decoded as they come, as everybody does it."""

    def __init__(self) -> None:
        self.sent_ns = now_ns()
        self.serial = 0
        self.tokens_ns: list[int] = []

    def line(self, line: str | bytes, at: int | None = None) -> None:
        at = now_ns() if at is None else at
        data = line[5:].strip() if line[:5] in ("data:", b"data:") else None
        if not data or data in ("[DONE]", b"[DONE]"):
            return
        for choice in json.loads(data)["choices"]:
            text = choice["delta"].get("content")
            if text:
                self.tokens_ns.append(at - self.sent_ns)
                if text[0] == "#":
                    self.serial = int(text[1:])


def run_requests(work: Work) -> None:
    """requests.Session, a thread for each stream."""
    import requests

    left = iter(range(work.requests))
    lock = threading.Lock()
    sessions = [requests.Session() for _ in range(work.concurrency)]

    def ask(session: requests.Session, *, warm: bool = False) -> None:
        parsed = Parsed()
        with session.post(f"{work.url}/v1/chat/completions", json=work.body(warm=warm), stream=True) as response:
            for line in response.iter_lines():
                parsed.line(line)
        if not warm:
            work.answers.append((parsed.serial, parsed.tokens_ns))

    def stream(session: requests.Session) -> None:
        while True:
            with lock:
                if next(left, None) is None:
                    return
            ask(session)

    work.ready()
    _in_threads(lambda session: ask(session, warm=True), sessions)
    work.go()
    _in_threads(stream, sessions)
    work.end()


def _in_threads(job: Callable[[Any], None], values: list[Any]) -> None:
    threads = [threading.Thread(target=job, args=(value,)) for value in values]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def run_httpx(work: Work) -> None:
    """httpx.AsyncClient, aiter_lines."""
    import httpx

    async def main() -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx.AsyncClient(limits=limits, timeout=None, trust_env=False) as client:

            async def ask(*, warm: bool = False) -> None:
                parsed = Parsed()
                body = work.body(warm=warm)
                async with client.stream("POST", f"{work.url}/v1/chat/completions", json=body) as response:
                    async for line in response.aiter_lines():
                        parsed.line(line)
                if not warm:
                    work.answers.append((parsed.serial, parsed.tokens_ns))

            await _streams(work, ask)

    asyncio.run(main())


def run_aiohttp(work: Work) -> None:
    """aiohttp.ClientSession, iterating over the content's lines."""
    import aiohttp

    async def main() -> None:
        connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

            async def ask(*, warm: bool = False) -> None:
                parsed = Parsed()
                async with session.post(f"{work.url}/v1/chat/completions", json=work.body(warm=warm)) as response:
                    async for line in response.content:
                        parsed.line(line)
                if not warm:
                    work.answers.append((parsed.serial, parsed.tokens_ns))

            await _streams(work, ask)

    asyncio.run(main())


async def _streams(work: Work, ask: Callable[..., Any]) -> None:
    left = iter(range(work.requests))

    async def stream() -> None:
        for _ in left:
            await ask()

    work.ready()
    await asyncio.gather(*(ask(warm=True) for _ in range(work.concurrency)))
    work.go()
    await asyncio.gather(*(stream() for _ in range(work.concurrency)))
    work.end()


def run_floor(work: Work) -> None:
    """epoll and recvmsg with the kernel's stamps, and nothing looked at, not even those, before all has come.

    It knows that this server ends an answer with the last chunk of a read, and nothing of HTTP besides: no client in
    Python that stamps its tokens as exactly can be cheaper, so what ours costs on a machine is read against it.
    """
    from pytest_modellens.measure.clock import ancillary_bytes, enable_kernel_stamps, realtime_offset_ns, stamp_ns

    address = urlsplit(work.url)
    poller, sockets = select.epoll(), {}
    for _ in range(work.concurrency):
        sock = socket.create_connection((address.hostname, address.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        enable_kernel_stamps(sock)
        poller.register(sock.fileno(), select.EPOLLIN)
        sockets[sock.fileno()] = sock
    body = json.dumps(work.body()).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
    asked = head.encode() + body
    reads: dict[int, list[tuple[bytes | None, bytes]]] = {}
    ended: list[tuple[int, list[tuple[bytes | None, bytes]]]] = []
    sent: dict[int, int] = {}
    begun = 0
    work.ready()
    offset = realtime_offset_ns()
    work.go()
    for fd, sock in sockets.items():
        sent[fd], reads[fd] = now_ns(), []
        sock.sendall(asked)
        begun += 1
    while len(ended) < work.requests:
        for fd, _ in poller.poll():
            sock = sockets[fd]
            data, ancillary, _, _ = sock.recvmsg(8192, ancillary_bytes)
            reads[fd].append((ancillary[0][2] if ancillary else None, data))
            tail = data if len(data) >= 5 else b"".join(piece for _, piece in reads[fd][-2:])
            if tail.endswith(b"0\r\n\r\n"):
                ended.append((sent[fd], reads[fd]))
                if begun < work.requests:
                    sent[fd], reads[fd] = now_ns(), []
                    sock.sendall(asked)
                    begun += 1
    work.received()
    for sent_ns, answer in ended:
        parsed = Parsed()
        parsed.sent_ns = sent_ns
        rest = b""
        for stamp, data in answer:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                parsed.line(line, (stamp_ns(stamp) or 0) - offset)
        work.answers.append((parsed.serial, parsed.tokens_ns))
    work.end()
    work.notes["reads"] = sum(len(answer) for _, answer in ended)


def run_bare(work: Work) -> None:
    """Our client alone; answers are decoded when all have come."""
    from dataclasses import replace

    from pytest_modellens.load.executor import BEGUN_AT_ONCE
    from pytest_modellens.measure.client import Client
    from pytest_modellens.measure.garbage import short_collections
    from pytest_modellens.providers.openai import OpenAIProvider

    provider, request = OpenAIProvider(f"{work.url}/v1"), _request(work)
    with Client() as client, short_collections():
        work.ready()
        for _ in range(work.concurrency):
            client.submit(provider.encode(replace(request, max_tokens=1)))
        while client.poll():
            pass
        wire = provider.encode(request)
        exchanges: list[Exchange] = []
        work.go()
        free, begun = work.concurrency, 0
        while client.in_flight or begun < work.requests:
            # A few at a time, with a look at the sockets in between, as the plugin does it.
            for _ in range(min(free, BEGUN_AT_ONCE, work.requests - begun)):
                client.submit(wire)
                free -= 1
                begun += 1
            ended = client.poll(0 if free and begun < work.requests else None)
            free += len(ended)
            exchanges += ended
        work.received()
        replies = [provider.decode(request, exchange) for exchange in exchanges]
        work.end()
    _take(work, replies)
    for exchange in exchanges:
        exchange.reads = [(read, None, data) for read, _, data in exchange.reads]
    work.own_clock = [_answer(provider.decode(request, exchange)) for exchange in exchanges]


def run_loop(work: Work) -> None:
    """Our provider through the closed loop."""
    from dataclasses import replace

    from pytest_modellens.load.executor import execute
    from pytest_modellens.load.plan import LoadPlan
    from pytest_modellens.providers.openai import OpenAIProvider

    provider, request = OpenAIProvider(f"{work.url}/v1"), _request(work)
    work.ready()
    provider.run_prompt(replace(request, max_tokens=1))
    work.go()
    plan = LoadPlan(concurrency=work.concurrency, requests=work.requests)
    replies = [done.reply for done in execute(provider, plan, repeat(request))]
    work.end()
    _take(work, replies)


def _request(work: Work) -> Any:
    from pytest_modellens.models import RunRequest

    return RunRequest(PROMPT, "known", max_tokens=work.tokens, stream=True)


def _take(work: Work, replies: list[Reply]) -> None:
    work.answers = [_answer(reply) for reply in replies]
    transports = [reply.transport for reply in replies if reply.transport]
    work.notes["reads"] = sum(transport.reads for transport in transports)
    work.notes["coalesced_reads"] = sum(transport.coalesced_reads for transport in transports)
    work.notes["clocks"] = sorted({transport.clock for transport in transports})


def _answer(reply: Reply) -> tuple[int, list[int]]:
    assert reply.error is None, reply.error
    assert reply.timeline is not None
    events = reply.timeline.events
    return _serial(reply.content), [event.at_ns - reply.timeline.sent_ns for event in events]


def _serial(content: str) -> int:
    found = _SERIAL.match(content)
    assert found is not None
    return int(found[1])


def run_plugin(work: Work) -> None:
    """A suite of one case under pytest: hardware sampler, decoding, expectations and records on disk included."""
    _suite(work, {"warmup": 0, "rounds": work.requests, "concurrency": work.concurrency})


def run_workers(work: Work) -> None:
    """A load cell of a suite, carried by two client processes."""
    load = {"concurrency": work.concurrency, "requests": work.requests}
    _suite(work, {"load": load}, "--modellens-workers=2")


def _suite(work: Work, asked: dict[str, Any], *more: str) -> None:
    import tempfile

    import pytest

    class Probe:
        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_call(self) -> None:
            work.ready()
            self.began_s = time.time()
            work.go()

        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_teardown(self) -> None:
            work.end()
            work.notes["finishing_cpu_s"] = -_cpu_s()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        case = {"name": "known", "prompt": PROMPT, "max_tokens": work.tokens, "timeout": "300s"}
        case |= asked
        suite = folder / "known.suite.yaml"
        suite.write_text(json.dumps({"cases": [case]}))  # JSON is YAML too
        (folder / "pytest.ini").write_text("[pytest]\n")
        os.chdir(folder)
        options = ["-q", "-p", "no:cacheprovider", *_plugin_options(), *more]
        options += ["--provider", "openai", "--modellens-base-url", f"{work.url}/v1", str(suite)]
        code = pytest.main(options, plugins=[probe := Probe()])
        work.notes["finishing_cpu_s"] += _cpu_s()
        work.notes["peak_mb"] = _peak_mb()
        if code not in {0, 1}:  # a load may be judged client-bound, which the numbers show too
            sys.exit(f"pytest ended with {code}")
        started: list[float] = []
        for record in _records(folder):
            started.append(datetime.fromisoformat(record["started_at"]).timestamp())
            work.answers.append((_serial(record["response"]), record["timeline"]["event_ns"]))
            for key in ("reads", "coalesced_reads"):
                work.notes[key] = work.notes.get(key, 0) + record[key]
        work.notes["first_s"] = min(started) - probe.began_s


def _plugin_options() -> list[str]:
    from importlib.metadata import entry_points

    # In a checkout that is not installed, pytest has to be told of the plugin.
    return [] if entry_points(group="pytest11", name="modellens") else ["-p", "pytest_modellens.plugin"]


def _records(folder: Path) -> Iterator[dict[str, Any]]:
    (path,) = folder.glob("results/*/requests.jsonl")
    with path.open() as lines:
        for line in lines:
            yield json.loads(line)


CLIENTS: dict[str, tuple[str, Callable[[Work], None]]] = {
    "floor": ("epoll and recvmsg alone", run_floor),
    "bare": ("ours, client and decoder", run_bare),
    "loop": ("ours, closed loop", run_loop),
    "plugin": ("ours, pytest suite", run_plugin),
    "workers": ("ours, load cell over two processes", run_workers),
    "requests": ("requests, iter_lines in threads", run_requests),
    "httpx": ("httpx, aiter_lines", run_httpx),
    "aiohttp": ("aiohttp, content", run_aiohttp),
}
"""Titles, and what to run."""


def main() -> None:
    """Do the work of one client and write down what it saw."""
    name, given, result = sys.argv[1:]
    work = Work(**json.loads(given))
    CLIENTS[name][1](work)
    Path(result).write_text(json.dumps({"answers": work.answers, "own_clock": work.own_clock, **work.notes}))


if __name__ == "__main__":
    main()
