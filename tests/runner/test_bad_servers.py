"""Servers that misbehave under load, and a clock that is set: the outcome is clear, every request has its record."""

from __future__ import annotations

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

WORDS = stream("a", "b", "c")


pytestmark = pytest.mark.usefixtures("machine_may_be_busy")


def loaded(url: str, plan: LoadPlan) -> CellRun:
    """Return a cell that has put its load on the server at `url`."""
    case = Case("bad", 1, prompt="hi", max_tokens=4, load=plan, slo=(Slo("total_time_ms", 10_000.0),))
    with closing(LlamaCppProvider(url)) as provider:
        run = CellRun(provider, case.cells()[0], suite="suites/bad.yaml", model="tiny")
        run.run()
    return run


def classes(run: CellRun) -> Counter[str | None]:
    return Counter(record.error_class for record in run.records)


def sentence(run: CellRun) -> str:
    (found,) = findings(run.records, planned=run.planned, stopped=run.stopped)
    return found


def refuse_every_second(chat: Chat) -> None:
    if len(chat.server.chats) % 2:
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
    def answer(chat: Chat) -> None:
        time.sleep(0.004 if len(chat.server.chats) <= 20 else 0.4)
        WORDS(chat)

    with fake_server(answer) as server:
        run = loaded(server.url, LoadPlan(rate=100, requests=40))
    assert classes(run) == {None: 40}
    first, last = (
        [record for record in sorted(run.records, key=lambda record: record.round) if record.phase == "measured"][at]
        for at in (0, -1)
    )
    assert last.total_time_ms is not None
    assert last.total_time_ms > 400
    # The open loop does not wait for it: starts stay on their schedule.
    assert first.sent_ns is not None
    assert last.sent_ns is not None
    assert last.sent_ns - first.sent_ns < 2_000_000_000


class Mortal:
    """A server that can be killed and started again at the same address."""

    def __init__(self) -> None:
        self.dead = threading.Event()
        self._server = FakeServer(self._answer)
        self.url = self._server.url
        self._start()

    def kill(self) -> None:
        self.dead.set()
        self._server.shutdown()
        self._server.server_close()

    def revive(self) -> None:
        self.dead.clear()
        self._server = FakeServer(self._answer, self._server.server_port)
        self._start()

    def _start(self) -> None:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}).start()

    def _answer(self, chat: Chat) -> None:
        time.sleep(0.01)
        if self.dead.is_set():
            chat.close_connection = True
        else:
            WORDS(chat)


@pytest.fixture
def mortal() -> Iterator[Mortal]:
    server = Mortal()
    yield server
    server.kill()


def during(story: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=story)
    thread.start()
    return thread


def test_server_that_dies_and_comes_back_is_measured_again(mortal: Mortal) -> None:
    def story() -> None:
        time.sleep(0.5)
        mortal.kill()
        time.sleep(0.2)
        mortal.revive()

    told = during(story)
    run = loaded(mortal.url, LoadPlan(rate=100, duration_s=1.5, max_error_rate=1))
    told.join()
    order = sorted(run.records, key=lambda record: record.started_at)
    assert len(order) == 150
    assert order[0].ok
    assert order[-1].ok
    failed = [record for record in order if not record.ok]
    assert failed
    assert {record.error_class for record in failed} <= {"connect", "truncated"}
    assert all(record.total_time_ms is None for record in failed)
    assert sentence(run).startswith(f"{len(failed)} of 150 requests failed")


def test_server_that_dies_ends_the_load_and_loses_nothing(mortal: Mortal) -> None:
    def story() -> None:
        time.sleep(0.4)
        mortal.kill()

    told = during(story)
    run = loaded(mortal.url, LoadPlan(concurrency=2, duration_s=30))
    told.join()
    assert run.stopped is not None
    assert run.stopped.endswith("of the last 20 requests failed")
    assert classes(run)[None] > 0
    assert classes(run)["connect"] >= 10
    assert "stopped early" in sentence(run)
    mortal.revive()  # for the fixture to kill


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
        if len(chat.server.chats) == 10:
            # As if the wall clock had been set: from here on it is an hour ahead of the kernel's earlier stamps.
            step_ns = 3_600_000_000_000
        WORDS(chat)

    with fake_server(answer) as server:
        run = loaded(server.url, LoadPlan(concurrency=1, requests=20))
    assert classes(run) == {None: 20}
    touched = [record for record in run.records if record.clock == "perf_counter"]
    assert [record.round for record in touched] == [9]
    assert touched[0].clock_note == "the wall clock was set by +3600000.0 ms during the request"
    assert touched[0].ttft_ms is not None
    assert 0 < touched[0].ttft_ms < 10_000
