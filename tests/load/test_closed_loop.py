"""A fixed number of requests in flight."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.load.executor import execute
from pytest_modellens.load.plan import LoadPlan
from pytest_modellens.providers.base import RunRequest, RunResult
from pytest_modellens.providers.openai import OpenAIProvider
from tests.fault_server import FaultServer, Read, Wait, response
from tests.providers.asking import WHOLE
from tests.providers.test_contract import Foreign

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Iterator

    from pytest_modellens.measure.reply import Reply
    from pytest_modellens.providers.base import ProviderAdapter

ASK = RunRequest("hi", "tiny")


def loop(provider: ProviderAdapter, requests: Iterable[RunRequest], *, concurrency: int) -> Iterator[Reply]:
    """Yield a reply for each request, with so many of them under way."""
    plan = LoadPlan(concurrency=concurrency, requests=1000, max_error_rate=1)
    with closing(execute(provider, plan, iter(requests))) as replies:
        for done in replies:
            yield done.reply


class Gauge:
    """Counts how many requests a server has at once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = self.most = 0

    def serve(self, connection: socket.socket) -> None:
        while connection.recv(65536):
            with self.lock:
                self.now += 1
                self.most = max(self.most, self.now)
            time.sleep(0.005)
            with self.lock:
                self.now -= 1
            connection.sendall(response(WHOLE))


def asked(counter: list[int], number: int) -> Iterator[RunRequest]:
    for _ in range(number):
        counter.append(1)
        yield ASK


def test_as_many_as_asked_are_under_way() -> None:
    gauge = Gauge()
    with FaultServer([gauge.serve]) as server:
        replies = list(loop(OpenAIProvider(f"{server.url}/v1"), [ASK] * 30, concurrency=4))
    assert [reply.content for reply in replies] == ["hello"] * 30
    assert gauge.most == 4
    assert server.connections == 4


def test_more_places_than_requests_are_fine() -> None:
    gauge = Gauge()
    with FaultServer([gauge.serve]) as server:
        assert len(list(loop(OpenAIProvider(f"{server.url}/v1"), [ASK], concurrency=64))) == 1
        assert list(loop(OpenAIProvider(f"{server.url}/v1"), [], concurrency=3)) == []


def test_requests_are_taken_when_their_turn_comes() -> None:
    taken: list[int] = []
    with FaultServer([Gauge().serve]) as server:
        replies = loop(OpenAIProvider(f"{server.url}/v1"), asked(taken, 50), concurrency=2)
        next(replies)
        assert len(taken) <= 4
        replies.close()  # type: ignore[attr-defined]


def test_foreign_adapter_takes_requests_when_their_turn_comes() -> None:
    taken: list[int] = []
    replies = loop(Foreign(), asked(taken, 50), concurrency=2)
    next(replies)
    assert len(taken) <= 4
    assert len(list(replies)) == 49


def interrupt_soon() -> threading.Timer:
    timer = threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    timer.start()
    return timer


def test_interrupt_yields_what_is_under_way_as_cancelled() -> None:
    kept: list[Reply] = []
    with FaultServer([Read(), response(WHOLE), Read(), Wait()]) as server:
        replies = loop(OpenAIProvider(f"{server.url}/v1"), [ASK] * 10, concurrency=2)
        timer = interrupt_soon()
        with pytest.raises(KeyboardInterrupt):
            kept.extend(replies)
        timer.join()
    classes = [reply.error.error_class if reply.error else None for reply in kept]
    assert classes == [None, None, "cancelled", "cancelled"]
    assert str(kept[-1].error).endswith("/v1/chat/completions: interrupted")


def test_interrupt_of_foreign_adapters_yields_what_is_under_way_as_cancelled() -> None:
    release = threading.Event()

    class Slow(Foreign):
        def run_prompt(self, request: RunRequest) -> RunResult:
            if request.prompt == "slow":
                release.wait(10)
            return super().run_prompt(request)

    kept: list[Reply] = []
    replies = loop(Slow(), [ASK, *[RunRequest("slow", "m")] * 9], concurrency=2)
    timer = interrupt_soon()
    with pytest.raises(KeyboardInterrupt):
        kept.extend(replies)
    timer.join()
    release.set()
    classes = [reply.error.error_class if reply.error else None for reply in kept]
    assert classes == [None, "cancelled", "cancelled"]


def test_leaving_the_loop_early_closes_its_connections() -> None:
    with FaultServer([Gauge().serve]) as server:
        replies = loop(OpenAIProvider(f"{server.url}/v1"), [ASK] * 10, concurrency=3)
        assert next(replies).content == "hello"
        del replies
