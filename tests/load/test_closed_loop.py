"""A fixed number of requests in flight."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.load.executor import execute
from pytest_modellens.load.plan import LoadPlan
from pytest_modellens.providers.base import RunRequest, RunResult
from pytest_modellens.providers.openai import OpenAIProvider
from tests.fault_server import FaultServer, Read, Wait, response
from tests.load.test_executor import interrupt_when
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
    """Counts how many requests a server has at once, and answers none before there have been `enough`."""

    def __init__(self, enough: int = 1) -> None:
        self.changed = threading.Condition()
        self.enough = enough
        self.now = self.most = 0

    def serve(self, connection: socket.socket) -> None:
        while connection.recv(65536):
            with self.changed:
                self.now += 1
                self.most = max(self.most, self.now)
                self.changed.notify_all()
                self.changed.wait_for(lambda: self.most >= self.enough, 30)
            time.sleep(0.005)
            with self.changed:
                self.now -= 1
            connection.sendall(response(WHOLE))


def asked(counter: list[int], number: int) -> Iterator[RunRequest]:
    for _ in range(number):
        counter.append(1)
        yield ASK


def test_as_many_as_asked_are_under_way() -> None:
    gauge = Gauge(enough=4)
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


def test_interrupt_yields_what_is_under_way_as_cancelled() -> None:
    kept: list[Reply] = []
    with FaultServer([Read(), response(WHOLE), Read(), Wait()]) as server:
        replies = loop(OpenAIProvider(f"{server.url}/v1"), [ASK] * 10, concurrency=2)
        interrupting = interrupt_when(lambda: len(server.received) == 4)
        with pytest.raises(KeyboardInterrupt):
            kept.extend(replies)
        interrupting.join()
    classes = [reply.error.error_class if reply.error else None for reply in kept]
    assert classes == [None, None, "cancelled", "cancelled"]
    assert str(kept[-1].error).endswith("/v1/chat/completions: interrupted")


def test_interrupt_of_foreign_adapters_yields_what_is_under_way_as_cancelled() -> None:
    release, slow = threading.Event(), count(1)
    both_are_slow = threading.Event()

    class Slow(Foreign):
        def run_prompt(self, request: RunRequest) -> RunResult:
            if request.prompt == "slow":
                if next(slow) == 2:
                    both_are_slow.set()
                release.wait(60)
            return super().run_prompt(request)

    kept: list[Reply] = []
    replies = loop(Slow(), [ASK, *[RunRequest("slow", "m")] * 9], concurrency=2)
    interrupting = interrupt_when(both_are_slow.is_set)
    with pytest.raises(KeyboardInterrupt):
        kept.extend(replies)
    interrupting.join()
    release.set()
    classes = [reply.error.error_class if reply.error else None for reply in kept]
    assert classes == [None, "cancelled", "cancelled"]


def test_leaving_the_loop_early_closes_its_connections() -> None:
    with FaultServer([Gauge().serve]) as server:
        replies = loop(OpenAIProvider(f"{server.url}/v1"), [ASK] * 10, concurrency=3)
        assert next(replies).content == "hello"
        del replies
