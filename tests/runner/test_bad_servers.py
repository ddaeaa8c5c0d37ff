"""Servers that misbehave under load, and a clock that is set: the outcome is clear, every request has its record."""

from __future__ import annotations

import re
import socket
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.findings import findings
from pytest_modellens.load.plan import LoadPlan
from pytest_modellens.providers.llamacpp import LlamaCppProvider
from pytest_modellens.runner import CellRun
from pytest_modellens.suite.case import Case
from pytest_modellens.suite.slo import Slo
from tests.plugin.fake_server import Chat, FakeServer, fake_server, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_modellens.record import Record

WORDS = stream("a", "b", "c")


pytestmark = pytest.mark.usefixtures("machine_may_be_busy")


def loaded(url: str, plan: LoadPlan, keep: Callable[[Record], Record] | None = None) -> CellRun:
    """Return a cell that has put its load on the server at `url`."""
    case = Case("bad", 1, prompt="hi", max_tokens=4, load=plan, slo=(Slo("total_time_ms", 60_000.0),))
    with closing(LlamaCppProvider(url)) as provider:
        run = CellRun(provider, case.cells()[0], suite="suites/bad.yaml", model="tiny", keep=keep)
        run.run()
    return run


def classes(run: CellRun) -> Counter[str | None]:
    return Counter(record.error_class for record in run.records)


def sentence(run: CellRun) -> str:
    (found,) = findings(run.records, planned=run.planned, stopped=run.stopped)
    return found


def refuse_every_second(chat: Chat) -> None:
    if chat.number % 2:
        WORDS(chat)
    else:
        chat.json({"error": {"message": "busy"}}, status=503, headers=[("Retry-After", "1")])


def test_server_that_refuses_every_second_request() -> None:
    """Half is not more than half: the load goes on, and the refusals count against goodput, not into latencies."""
    with fake_server(refuse_every_second) as server:
        run = loaded(server.url, LoadPlan(concurrency=1, requests=60))
    assert run.stopped is None
    assert classes(run) == {None: 30, "http_5xx": 30}
    assert all((record.ttft_ms is None) == (not record.ok) for record in run.records)
    assert {record.retry_after for record in run.records if not record.ok} == {"1"}
    assert run.load is not None
    assert run.load.summary is not None
    assert (run.load.summary.n_started, run.load.summary.n_good) == (60, 30)
    assert run.load.summary.error_rates == {"http_5xx": 0.5}
    assert sentence(run).startswith("30 of 60 requests failed (30 × http_5xx)")


def test_server_that_becomes_a_hundred_times_slower() -> None:
    all_came = threading.Event()

    def answer(chat: Chat) -> None:
        if chat.number == 40:
            all_came.set()
        if chat.number > 20:
            # The open loop does not wait for answers: the last request begins before there are any more.
            assert all_came.wait(30)
            time.sleep(0.4)
        WORDS(chat)

    with fake_server(answer) as server:
        run = loaded(server.url, LoadPlan(rate=100, requests=40))
    assert classes(run) == {None: 40}
    assert sum((record.total_time_ms or 0) > 400 for record in run.records) >= 20


class Mortal:
    """A server that can be killed and started again at the same address."""

    def __init__(self) -> None:
        self.dead = threading.Event()
        self.deaths = 0
        # Keeps the port for it: it is bound, but nobody listens there.
        self._bound = socket.socket()
        self._bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._bound.bind(("127.0.0.1", 0))
        self.revive()
        self.url = self._server.url

    def kill(self) -> None:
        self.dead.set()
        self.deaths += 1
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def revive(self) -> None:
        self.dead.clear()
        self._server = FakeServer(self._answer, self._bound.getsockname()[1])
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        if not self.dead.is_set():
            self.kill()
        self._bound.close()

    def _answer(self, chat: Chat) -> None:
        time.sleep(0.01)
        if self.dead.is_set():
            chat.close_connection = True
        else:
            WORDS(chat)


@pytest.fixture
def mortal() -> Iterator[Mortal]:
    with closing(Mortal()) as server:
        yield server


def test_server_that_dies_and_comes_back_is_measured_again(mortal: Mortal) -> None:
    failed: list[Record] = []

    def keep(record: Record) -> Record:
        failed.extend([] if record.ok else [record])
        if record.ok and not mortal.deaths and record.round >= 30:
            mortal.kill()
        elif len(failed) == 20 and mortal.dead.is_set():
            mortal.revive()
        return record

    run = loaded(mortal.url, LoadPlan(concurrency=2, requests=150, max_error_rate=1), keep)
    # Rounds count anew after the beginning that is cut off, which may be any part of such a load.
    order = sorted(run.records, key=lambda record: record.ended_ns or 0)
    assert len(order) == 150
    assert [record.ok for record in order[:30]] == [True] * 30
    assert order[-1].ok
    assert len(failed) == sum(not record.ok for record in order) >= 20
    assert {record.error_class for record in failed} <= {"connect", "truncated"}
    assert all(record.total_time_ms is None for record in failed)
    assert sentence(run).startswith(f"{len(failed)} of 150 requests failed")


def test_server_that_dies_ends_the_load_and_loses_nothing(mortal: Mortal) -> None:
    def keep(record: Record) -> Record:
        if record.round >= 20 and not mortal.deaths:
            mortal.kill()
        return record

    run = loaded(mortal.url, LoadPlan(concurrency=2, duration_s=300), keep)
    assert run.stopped is not None
    assert re.fullmatch(r"\d+ of the last \d+ requests failed", run.stopped)
    assert classes(run)[None] >= 20
    assert classes(run)["connect"] >= 10
    assert "stopped early" in sentence(run)


@pytest.mark.skipif(sys.platform != "linux", reason="kernel time stamps are Linux's")
def test_clock_that_is_set_during_a_load_touches_only_what_was_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_modellens.measure import client, clock, exchange

    step_ns = 0

    def offset_ns() -> int:
        return clock.realtime_offset_ns() + step_ns

    for module in (client, exchange):
        monkeypatch.setattr(module, "realtime_offset_ns", offset_ns)

    def answer(chat: Chat) -> None:
        nonlocal step_ns
        if chat.number == 10:
            # As if the wall clock had been set: from here on it is an hour ahead of the kernel's earlier stamps.
            step_ns = 3_600_000_000_000
        WORDS(chat)

    with fake_server(answer) as server:
        run = loaded(server.url, LoadPlan(concurrency=1, requests=20))
    assert classes(run) == {None: 20}
    touched = [record for record in run.records if "was set" in (record.clock_note or "")]
    assert [record.round for record in touched] == [9]
    assert touched[0].clock == "perf_counter"
    assert touched[0].clock_note == "the wall clock was set by +3600000.0 ms during the request"
    assert touched[0].ttft_ms is not None
    assert 0 < touched[0].ttft_ms < 600_000
