"""Loads on adapters that only have the contract's methods: a thread for each call."""

from __future__ import annotations

import threading
import time
from itertools import repeat
from typing import TYPE_CHECKING, ClassVar

import pytest

from pytest_modellens.errors import ConnectError
from pytest_modellens.load.executor import execute
from pytest_modellens.load.plan import LoadPlan
from pytest_modellens.providers.base import APICallMetrics, Message, Model, ProviderAdapter, RunRequest, RunResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_modellens.load.reply import LoadReply

REQUEST = RunRequest("hello", "m")


class Adapter(ProviderAdapter):
    name: ClassVar[str] = "adapter"
    default_port: ClassVar[int] = 1

    def __init__(self, until: threading.Event | float = 0.0) -> None:
        self.until = until
        """What an answer waits for, or for how long in seconds."""
        self.lock = threading.Lock()
        self.calls = self.in_flight = self.most_in_flight = 0

    def health_check(self) -> bool:
        return True

    def list_models(self) -> list[Model]:
        return []

    def run_prompt(self, request: RunRequest) -> RunResult:  # noqa: ARG002
        with self.lock:
            self.calls += 1
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            call = self.calls
        if isinstance(self.until, threading.Event):
            self.until.wait(60)
        else:
            time.sleep(self.until)
        with self.lock:
            self.in_flight -= 1
        if call == 2:
            raise ConnectError("no")
        return RunResult("hi", "m", self.name, None, 1.0, None, None, None, None)

    def chat_completion(
        self, messages: Sequence[Message], temperature: float, max_tokens: int, top_p: float, stream: bool
    ) -> tuple[str, APICallMetrics]:
        raise NotImplementedError


def test_closed_loop_in_threads() -> None:
    adapter = Adapter(0.02)
    replies = list(execute(adapter, LoadPlan(concurrency=3, requests=12, warmup_requests=1), repeat(REQUEST)))
    assert adapter.most_in_flight == 3
    assert [reply.phase for reply in replies].count("measured") == 12
    assert [str(reply.reply.error) for reply in replies if reply.reply.error] == ["no"]
    assert sum(reply.reply.adapter_result is not None for reply in replies) == 12
    assert all(reply.scheduled_ns == reply.begun_ns == reply.sent_ns for reply in replies)
    assert all(reply.begun_ns < reply.ended_ns for reply in replies)


def test_open_loop_in_threads() -> None:
    adapter = Adapter(0.001)
    replies = list(execute(adapter, LoadPlan(rate=50, requests=10), repeat(REQUEST)))
    assert len(replies) == 10
    assert max(reply.scheduled_ns for reply in replies) - min(reply.scheduled_ns for reply in replies) == 180_000_000
    assert all(reply.begun_ns >= reply.scheduled_ns for reply in replies)
    assert all(reply.late_ms == reply.schedule_delay_ms for reply in replies)


def test_threads_end_with_the_requests() -> None:
    replies = list(execute(Adapter(), LoadPlan(concurrency=2, requests=9), iter([REQUEST])))
    assert len(replies) == 1


def test_interrupt_yields_calls_under_way_as_cancelled() -> None:
    release = threading.Event()
    adapter = Adapter(release)
    replies: list[LoadReply] = []
    begun = 0

    def on_begin(*_: object) -> None:
        nonlocal begun
        begun += 1
        if begun == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replies.extend(execute(adapter, LoadPlan(concurrency=3, requests=9), repeat(REQUEST), on_begin=on_begin))
    release.set()
    errors = [reply.reply.error for reply in replies]
    assert [error.error_class for error in errors if error] == ["cancelled", "cancelled"]
