from __future__ import annotations

import gc
import os
import signal
import threading
import time
from itertools import pairwise, repeat
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.events import CompletionEvent
from pytest_modellens.load import executor
from pytest_modellens.load.executor import execute
from pytest_modellens.load.plan import LoadPlan
from pytest_modellens.measure.client import Client
from pytest_modellens.measure.clock import now_ns
from pytest_modellens.models import RunRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_modellens.load.pace import Turn
    from pytest_modellens.load.reply import LoadProgress, LoadReply
    from pytest_modellens.providers.llamacpp import LlamaCppProvider
    from tests.load.conftest import Server

REQUEST = RunRequest("hello", "tiny", max_tokens=8, stream=True)
LONG = RunRequest("hello", "tiny", max_tokens=64, stream=True)
END_S = 60.0


def phases(replies: list[LoadReply]) -> list[str]:
    return [reply.phase for reply in sorted(replies, key=lambda reply: reply.index)]


def most_in_flight(replies: list[LoadReply]) -> int:
    changes = sorted([(reply.sent_ns or 0, 1) for reply in replies] + [(reply.ended_ns, -1) for reply in replies])
    now = most = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most


def test_closed_loop_on_a_real_model(tiny: LlamaCppProvider) -> None:
    progress: list[LoadProgress] = []
    plan = LoadPlan(concurrency=4, requests=60, warmup_requests=8)
    replies = list(execute(tiny, plan, repeat(LONG), on_progress=progress.append))
    assert all(reply.reply.error is None for reply in replies)
    assert phases(replies) == ["warmup"] * 8 + ["measured"] * 60
    assert most_in_flight(replies) == 4
    assert all(reply.schedule_delay_ms == 0 for reply in replies)
    assert all(reply.request is LONG and reply.reply.timeline is not None for reply in replies)
    assert all(reply.begun_ns <= (reply.sent_ns or 0) < reply.ended_ns for reply in replies)
    last = progress[-1]
    assert (last.begun, last.ended, last.failed, last.in_flight, last.stopped) == (68, 68, 0, 0, None)
    assert last.elapsed_s > 0
    assert 0 <= last.client_cpu_share < 2
    assert len(progress) == 69


def test_open_loop_starts_at_its_instants(tiny: LlamaCppProvider) -> None:
    replies = list(execute(tiny, LoadPlan(rate=50, duration_s=1), repeat(REQUEST)))
    assert len(replies) == 50
    scheduled = sorted(reply.scheduled_ns for reply in replies)
    assert scheduled[-1] - scheduled[0] == 980_000_000
    assert all(reply.begun_ns >= reply.scheduled_ns for reply in replies)
    assert all(reply.late_ms == reply.schedule_delay_ms for reply in replies)
    for reply in replies:
        assert reply.reply.timeline is not None
        assert reply.reply.timeline.scheduled_ns == reply.scheduled_ns


def test_replies_are_decoded_as_they_end_and_not_at_the_end(tiny: LlamaCppProvider) -> None:
    load = execute(tiny, LoadPlan(concurrency=1, requests=3), repeat(REQUEST))
    assert [reply.index for reply in load] == [0, 1, 2]


def test_late_starts_begin_all_the_same(server: Server) -> None:
    """The consumer holds everything up; not one request of the schedule is skipped."""
    server.delay_s = 0.12
    replies: list[LoadReply] = []
    # Long enough for the first reply to come while others are still due.
    for reply in execute(server.provider, LoadPlan(rate=20, duration_s=2), repeat(REQUEST)):
        if not replies:
            time.sleep(0.15)
        replies.append(reply)
    assert len(replies) == 40
    assert max(reply.late_ms for reply in replies) > 50
    assert max(reply.pause_ms for reply in replies) > 50


def test_wait_for_room_is_a_schedule_delay_but_not_lateness(server: Server) -> None:
    server.delay_s = 0.05
    replies = list(execute(server.provider, LoadPlan(rate=100, requests=10, max_in_flight=1), repeat(REQUEST)))
    assert len(replies) == 10
    assert server.most_in_flight == 1
    # Each was due 10 ms after the one before, and had to wait for an answer that took 50.
    assert all(reply.schedule_delay_ms - reply.late_ms >= 40 * reply.index for reply in replies)


def test_stagger_spreads_the_first_requests(server: Server) -> None:
    server.held_from = 0
    begin_ns, begun = now_ns(), []

    def on_begin(turn: Turn) -> None:
        begun.append(now_ns())
        if len(begun) == 3:
            server.released.set()

    plan = LoadPlan(concurrency=3, requests=3, stagger_s=0.06)
    list(execute(server.provider, plan, repeat(REQUEST), begin_ns=begin_ns, on_begin=on_begin))
    assert all(at - begin_ns >= stream * 60_000_000 for stream, at in enumerate(begun))


def test_ramp_of_streams_is_warmup(server: Server) -> None:
    server.delay_s = 0.02
    replies = list(execute(server.provider, LoadPlan(concurrency=4, requests=20, ramp_s=0.2), repeat(REQUEST)))
    assert phases(replies).count("measured") == 20
    assert phases(replies)[0] == "warmup"
    assert most_in_flight([reply for reply in replies if reply.phase == "measured"]) == 4


def test_duration_ends_the_starts_and_waits_for_the_rest(server: Server) -> None:
    server.delay_s = 0.2
    begin_ns, end_ns = now_ns(), 300_000_000
    plan = LoadPlan(concurrency=2, duration_s=0.3)
    replies = list(execute(server.provider, plan, repeat(REQUEST), begin_ns=begin_ns))
    # Two, and two more where the first were not held up.
    assert 2 <= len(replies) <= 4
    assert all(reply.reply.error is None for reply in replies)
    assert max(reply.ended_ns for reply in replies) - begin_ns >= end_ns


def test_load_stops_when_too_many_fail(server: Server) -> None:
    server.all_fail = True
    progress: list[LoadProgress] = []
    plan = LoadPlan(concurrency=2, requests=500, max_error_rate=0.5)
    replies = list(execute(server.provider, plan, repeat(REQUEST), on_progress=progress.append))
    assert 20 <= len(replies) < 120
    assert progress[-1].stopped == "21 of the last 21 requests failed"
    assert progress[-1].failed == len(replies)
    assert all(reply.reply.error is not None and reply.reply.error.error_class == "http_5xx" for reply in replies)


def test_load_goes_on_when_few_fail(server: Server) -> None:
    server.statuses = dict.fromkeys(range(0, 40, 4), 503)
    replies = list(execute(server.provider, LoadPlan(concurrency=2, requests=40), repeat(REQUEST)))
    assert len(replies) == 40
    assert sum(reply.reply.error is not None for reply in replies) == 10


def test_error_rate_of_one_never_stops(server: Server) -> None:
    server.all_fail = True
    plan = LoadPlan(concurrency=2, requests=40, max_error_rate=1)
    assert len(list(execute(server.provider, plan, repeat(REQUEST)))) == 40


def test_refused_connections_are_replies_too(server: Server) -> None:
    provider = server.provider
    provider.base_url = "http://127.0.0.1:9/v1"
    replies = list(execute(provider, LoadPlan(concurrency=1, requests=2), repeat(REQUEST)))
    assert [reply.reply.error.error_class for reply in replies if reply.reply.error] == ["connect", "connect"]
    assert [reply.sent_ns for reply in replies] == [None, None]
    assert all(reply.scheduled_ns == reply.begun_ns for reply in replies)


def test_load_ends_when_there_is_nothing_more_to_send(server: Server) -> None:
    for plan in (LoadPlan(concurrency=2, requests=50), LoadPlan(rate=200, requests=50)):
        assert len(list(execute(server.provider, plan, iter([REQUEST] * 3)))) == 3


def test_stall_timeout_is_kept(server: Server) -> None:
    server.held_from = 0
    plan = LoadPlan(concurrency=1, requests=1)
    (reply,) = execute(server.provider, plan, repeat(REQUEST), stall_timeout_s=0.1)
    assert reply.reply.error is not None
    assert reply.reply.error.error_class == "timeout"


def test_on_begin_is_told_of_every_request(server: Server) -> None:
    begun: list[int] = []

    def on_begin(turn: Turn) -> None:
        # Told first: who dies right after it has told of every request that the server may have got.
        assert len(server.bodies) <= len(begun)
        begun.append(turn.index)

    plan = LoadPlan(concurrency=2, requests=9)
    list(execute(server.provider, plan, iter([REQUEST] * 4), on_begin=on_begin))
    assert begun == [0, 1, 2, 3]


def test_backlog_is_bounded(tiny: LlamaCppProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is never time to decode before the next start, decoding happens all the same."""
    waiting: list[tuple[int, int]] = []
    poll = executor._Load._poll

    def counted(load: executor._Load) -> bool:
        before = len(load._backlog)
        ended = poll(load)
        waiting.append((before, len(load._backlog)))
        return ended

    monkeypatch.setattr(executor, "MAX_BACKLOG", 3)
    monkeypatch.setattr(executor, "_EARLY_NS", 10**10)
    monkeypatch.setattr(executor._Load, "_poll", counted)
    one = RunRequest("hello", "tiny", max_tokens=1, stream=True)
    assert len(list(execute(tiny, LoadPlan(rate=100, requests=200), repeat(one)))) == 200
    # However many of them ended at once.
    decoded = [(there, there - left) for (_, there), (left, _) in pairwise(waiting) if there >= 3]
    assert len(decoded) > 1
    assert all(number >= there // 3 for there, number in decoded)


def test_backlog_is_bounded_where_something_ends_all_the_time(
    tiny: LlamaCppProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "MAX_BACKLOG", 3)
    begun = 0

    def on_begin(*_: object) -> None:
        nonlocal begun
        begun += 1

    ahead = []
    for number, _ in enumerate(
        execute(tiny, LoadPlan(concurrency=4, requests=150), repeat(REQUEST), on_begin=on_begin)
    ):
        time.sleep(0.002)
        ahead.append(begun - number)
    assert max(ahead) <= 3 + 4 + 4


def test_garbage_collector_looks_at_no_old_objects_meanwhile(server: Server) -> None:
    thresholds = gc.get_threshold()
    load = execute(server.provider, LoadPlan(concurrency=1, requests=2), repeat(REQUEST))
    next(load)
    assert gc.get_freeze_count() > 0
    assert gc.get_threshold()[2] > 10**9
    list(load)
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == thresholds


def test_load_emits_events(server: Server) -> None:
    provider = server.provider
    ends: list[CompletionEvent] = []
    provider.event_bus.subscribe(CompletionEvent, ends.append)
    replies = list(execute(provider, LoadPlan(concurrency=2, requests=4), repeat(REQUEST)))
    assert all(reply.reply.transport is not None and reply.reply.transport.live_decoding for reply in replies)
    assert len({event.request_id for event in ends}) == 4
    assert all(event.success for event in ends)


def test_other_requests_are_looked_at_while_a_long_answer_is_decoded(
    tiny: LlamaCppProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else all that arrives meanwhile shares one time stamp."""
    glances: list[int] = []
    monkeypatch.setattr(Client, "glance", lambda client: glances.append(client.in_flight))
    request = RunRequest("hello", "tiny", max_tokens=200, stream=True)
    replies = list(execute(tiny, LoadPlan(concurrency=2, requests=4), repeat(request)))
    events = [len(reply.reply.timeline.events) for reply in replies if reply.reply.timeline]
    assert len(glances) >= sum(number // 64 for number in events) > 0
    assert max(glances) > 0


def test_other_requests_are_looked_at_after_each_of_many_answers(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    glances: list[int] = []
    monkeypatch.setattr(executor, "MAX_BACKLOG", 1)
    monkeypatch.setattr(Client, "glance", lambda client: glances.append(client.in_flight))
    assert len(list(execute(server.provider, LoadPlan(concurrency=2, requests=6), repeat(REQUEST)))) == 6
    assert len(glances) == 6


def test_abandoned_load_closes_its_connections(server: Server) -> None:
    load = execute(server.provider, LoadPlan(concurrency=2, requests=50), repeat(REQUEST))
    next(load)
    load.close()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def interrupt_when(ready: Callable[[], bool]) -> threading.Thread:
    def wait_and_interrupt() -> None:
        until = time.monotonic() + END_S
        while not ready() and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait_and_interrupt)
    thread.start()
    return thread


def test_ctrl_c_yields_what_ended_and_what_was_cancelled_and_is_raised_again(server: Server) -> None:
    server.held_from = 12
    replies: list[LoadReply] = []
    progress: list[LoadProgress] = []
    interrupting = interrupt_when(lambda: len(server.bodies) == 12 + 3)
    plan = LoadPlan(concurrency=3, requests=10_000, stagger_s=0.015)
    with pytest.raises(KeyboardInterrupt):
        replies.extend(execute(server.provider, plan, repeat(REQUEST), on_progress=progress.append))
    interrupting.join()
    errors = [reply.reply.error for reply in replies if reply.reply.error is not None]
    assert (len(replies), len(errors)) == (12 + 3, 3)
    assert {(error.error_class, "interrupted" in str(error)) for error in errors} == {("cancelled", True)}
    assert sorted(reply.index for reply in replies) == list(range(len(replies)))
    assert progress[-1].stopped == "interrupted"


def test_ctrl_c_in_the_consumer_loses_nothing(server: Server) -> None:
    replies = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        for reply in execute(server.provider, LoadPlan(concurrency=2, requests=10_000), repeat(REQUEST)):
            replies.append(reply)
            if len(replies) == 5:
                signal.raise_signal(signal.SIGINT)
    assert sorted(reply.index for reply in replies) == list(range(len(replies)))


def test_second_ctrl_c_interrupts_at_once(server: Server) -> None:
    load = execute(server.provider, LoadPlan(concurrency=2, requests=10_000), repeat(REQUEST))
    next(load)
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        list(load)


def test_in_another_thread_the_signal_is_nobodys_business(server: Server) -> None:
    found: list[int] = []

    def run() -> None:
        found.append(len(list(execute(server.provider, LoadPlan(concurrency=1, requests=2), repeat(REQUEST)))))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(END_S)
    assert found == [2]
