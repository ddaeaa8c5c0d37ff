from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from itertools import count, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from pytest_modellens.errors import ConfigError, ModelLensError
from pytest_modellens.load import worker as worker_module
from pytest_modellens.load import workers as workers_module
from pytest_modellens.load.frames import (
    plan_to,
    read_frame,
    write_frame,
)
from pytest_modellens.load.plan import LoadPlan, Share
from pytest_modellens.load.workers import execute_in_workers
from pytest_modellens.models import RunRequest
from pytest_modellens.providers.openai_compatible import OpenAICompatibleProvider
from tests.load.test_adapter_threads import Adapter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_modellens.load.reply import LoadProgress, LoadReply
    from pytest_modellens.providers.llamacpp import LlamaCppProvider
    from tests.load.conftest import Server

REQUEST = RunRequest("hello", "tiny", max_tokens=16, stream=True)
END_S = 60.0


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "pytest_modellens.load.worker" in child.cmdline()]


def wait_for(true: Callable[[], bool]) -> None:
    until = time.monotonic() + END_S
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_workers_on_a_real_model_share_load_and_clock(tiny: LlamaCppProvider) -> None:
    progress: list[LoadProgress] = []
    before = time.perf_counter_ns()
    plan = LoadPlan(concurrency=4, requests=41, warmup_requests=3)
    replies = list(execute_in_workers(tiny, plan, repeat(REQUEST), workers=2, on_progress=progress.append))
    after = time.perf_counter_ns()
    assert [reply.phase for reply in replies].count("measured") == 41
    assert [reply.phase for reply in replies].count("warmup") == 3
    assert {reply.worker for reply in replies} == {0, 1}
    assert len({reply.index for reply in replies}) == 44
    for reply in replies:
        timeline = reply.reply.timeline
        assert reply.request is REQUEST
        assert reply.reply.error is None
        assert timeline is not None
        assert before < timeline.sent_ns < timeline.events[0].at_ns < after
        assert timeline.usage.completion == 16
        assert reply.reply.transport is not None
    assert (progress[-1].begun, progress[-1].ended, progress[-1].stopped) == (44, 44, None)
    assert children() == []


def test_open_loop_of_workers_is_the_schedule_of_one(server: Server) -> None:
    requests = (replace(REQUEST, prompt=f"prompt {number}") for number in count())
    plan = LoadPlan(rate=100, arrival="poisson", requests=30, seed=3)
    replies = sorted(execute_in_workers(server.provider, plan, requests, workers=3), key=lambda reply: reply.index)
    assert [reply.index for reply in replies] == list(range(30))
    assert [reply.request.prompt for reply in replies] == [f"prompt {number}" for number in range(30)]
    assert sorted(reply.scheduled_ns for reply in replies) == [reply.scheduled_ns for reply in replies]
    assert {body["messages"][0]["content"] for body in server.bodies} == {f"prompt {n}" for n in range(30)}


def test_more_workers_than_streams_are_not_started(server: Server) -> None:
    replies = list(execute_in_workers(server.provider, LoadPlan(concurrency=1, requests=2), repeat(REQUEST), workers=4))
    assert {reply.worker for reply in replies} == {0}


def test_workers_end_with_the_requests(server: Server) -> None:
    plan = LoadPlan(concurrency=2, requests=9)
    assert len(list(execute_in_workers(server.provider, plan, iter([REQUEST] * 3), workers=2))) == 3


def test_key_is_neither_in_arguments_nor_in_the_environment(server: Server) -> None:
    server.held_from = 1
    load = execute_in_workers(server.provider, LoadPlan(concurrency=2, requests=4), repeat(REQUEST), workers=2)
    next(load)
    wait_for(lambda: server.in_flight == 2)  # one of each worker, none of which can have ended
    assert len(children()) == 2
    for child in children():
        assert not any("secret-key" in argument for argument in child.cmdline())
        assert not any("secret-key" in value for value in child.environ().values())
    server.released.set()
    assert len(list(load)) == 3


def test_killed_worker_loses_only_its_own_requests(server: Server) -> None:
    server.held_from = 1
    replies: list[LoadReply] = []
    for reply in execute_in_workers(server.provider, LoadPlan(concurrency=2, requests=12), repeat(REQUEST), workers=2):
        if not replies:
            wait_for(lambda: server.in_flight == 2)  # one of each worker
            min(children(), key=psutil.Process.create_time).kill()
            server.released.set()
        replies.append(reply)
    lost = [reply for reply in replies if reply.reply.error is not None]
    assert [(reply.reply.error.error_class, reply.worker) for reply in lost if reply.reply.error] == [("cancelled", 0)]
    assert "load worker 0 ended early (killed by signal 9)" in str(lost[0].reply.error)
    assert lost[0].request is REQUEST
    assert lost[0].phase == "measured"
    assert sum(reply.worker == 1 for reply in replies) == 6


@pytest.mark.parametrize("raised_here", [True, False], ids=["raised here", "signal"])
def test_ctrl_c_yields_what_workers_had_under_way(
    server: Server, raised_here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.held_from = 1
    replies: list[LoadReply] = []
    told = False

    def on_progress(_: LoadProgress) -> None:
        nonlocal told
        if not told:
            told = True
            if raised_here:
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGINT)

    plan = LoadPlan(concurrency=2, requests=1000)
    with pytest.raises(KeyboardInterrupt):
        replies.extend(execute_in_workers(server.provider, plan, repeat(REQUEST), workers=2, on_progress=on_progress))
    assert {reply.reply.error.error_class for reply in replies if reply.reply.error} == {"cancelled"}
    assert children() == []


def test_workers_that_do_not_give_up_are_killed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.held_from = 0
    monkeypatch.setattr(workers_module, "_GIVE_UP_S", 0.2)
    monkeypatch.setattr(workers_module._Worker, "give_up", lambda _: None)

    def interrupt() -> None:
        wait_for(lambda: bool(server.bodies))
        os.kill(os.getpid(), signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    replies: list[LoadReply] = []
    plan = LoadPlan(concurrency=1, requests=9)
    with pytest.raises(KeyboardInterrupt):
        replies.extend(execute_in_workers(server.provider, plan, repeat(REQUEST), workers=1))
    interrupting.join()
    assert [str(reply.reply.error) for reply in replies] == ["load worker 0 ended early (killed by signal 9)"]


def test_abandoned_load_ends_its_workers(server: Server) -> None:
    load = execute_in_workers(server.provider, LoadPlan(concurrency=2, requests=5000), repeat(REQUEST), workers=2)
    next(load)
    assert len(children()) == 2
    load.close()  # type: ignore[attr-defined]
    assert children() == []


def test_workers_die_with_their_parent(server: Server, tmp_path: Path) -> None:
    server.held_from = 0
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(f"""
        from itertools import repeat
        from pytest_modellens.load.plan import LoadPlan, Share
        from pytest_modellens.load.workers import execute_in_workers
        from pytest_modellens.models import RunRequest
        from pytest_modellens.providers.openai_compatible import OpenAICompatibleProvider
        provider = OpenAICompatibleProvider("http://127.0.0.1:{server.server_port}/v1")
        plan = LoadPlan(concurrency=2, requests=2)
        list(execute_in_workers(provider, plan, repeat(RunRequest("x", "m", stream=True)), workers=2))
        """)
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, script], env={**os.environ, "PYTHONPATH": str(root)}) as parent:
        wait_for(lambda: len(server.bodies) == 2)
        orphans = psutil.Process(parent.pid).children()
        assert len(orphans) == 2
        parent.kill()
    assert psutil.wait_procs(orphans, timeout=END_S)[1] == []


class Unlike(OpenAICompatibleProvider):
    def __init__(self, base_url: str, *, organisation: str) -> None:
        super().__init__(base_url)
        self.organisation = organisation


def test_provider_that_cannot_be_made_again_is_refused(server: Server) -> None:
    class Local(OpenAICompatibleProvider):
        pass

    plan = LoadPlan(concurrency=2, requests=2)
    for provider in (Unlike("http://127.0.0.1:9", organisation="x"), Local("http://127.0.0.1:9")):
        with pytest.raises(ConfigError, match=r"cannot be made again in another process \(use one worker\)"):
            next(execute_in_workers(provider, plan, repeat(REQUEST), workers=2))
    with pytest.raises(ConfigError, match=r"provider 'adapter': workers need a provider reached over HTTP"):
        next(execute_in_workers(Adapter(), plan, repeat(REQUEST), workers=2))


def test_worker_that_does_not_start_says_why(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ModelLensError, match=r"load worker 0: did not start \(exit status 1\)"):
        next(execute_in_workers(server.provider, LoadPlan(concurrency=1, requests=1), repeat(REQUEST), workers=1))


def test_refusal_of_a_worker_is_raised_here(server: Server) -> None:
    bad = replace(REQUEST, headers={"X-A": "a\nb"})
    with pytest.raises(ConfigError, match="header 'X-A': cannot be sent"):
        next(execute_in_workers(server.provider, LoadPlan(concurrency=1, requests=1), repeat(bad), workers=1))


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a worker in this process from watching its parent."""
    monkeypatch.setattr(worker_module, "_end_with_parent", lambda _: None)


SETUP: dict[str, Any] = {
    "parent": 1,
    "worker": 0,
    "workers": 1,
    "stall_timeout_s": None,
    "keeping": None,
    "plan": plan_to(LoadPlan(concurrency=1, requests=1)),
    "provider": {
        "module": OpenAICompatibleProvider.__module__,
        "class": "OpenAICompatibleProvider",
        "base_url": "http://127.0.0.1:9/v1",
        "api_key": None,
        "event_source": "x",
        "timeout_s": 1.0,
        "uses_proxies": False,
        "headers": {},
    },
}


@pytest.mark.usefixtures("alone")
def test_worker_without_a_parent_does_nothing() -> None:
    stdin, stdout = io.BytesIO(), io.BytesIO()
    worker_module.main(stdin, stdout)
    assert stdout.getvalue() == b""
    write_frame(stdin, SETUP)
    stdin.seek(0)
    worker_module.main(stdin, stdout)
    stdout.seek(0)
    assert read_frame(stdout) == {"kind": "ready"}
    assert read_frame(stdout) is None


@pytest.mark.usefixtures("alone")
def test_worker_whose_parent_no_longer_listens_ends() -> None:
    class Gone(io.BytesIO):
        def write(self, _: Any) -> int:
            raise BrokenPipeError

    stdin = io.BytesIO()
    write_frame(stdin, SETUP)
    stdin.seek(0)
    worker_module.main(stdin, Gone())


def test_worker_is_given_no_more_than_there_is_room_for() -> None:
    taken: list[int] = []

    def source() -> Iterator[RunRequest]:
        for number in range(9):
            taken.append(number)
            yield replace(REQUEST, prompt=str(number))

    feed = workers_module._Feed(source(), 1, ahead=2)
    share, given = Share(0, 1), threading.Event()
    assert [feed.take(share), feed.take(share)] == [replace(REQUEST, prompt="0"), replace(REQUEST, prompt="1")]

    def take() -> None:
        feed.take(share)
        given.set()

    third = threading.Thread(target=take)
    third.start()
    assert not given.wait(0.05)
    assert taken == [0, 1]
    feed.make_room(share)
    assert given.wait(30)
    third.join()
    assert taken == [0, 1, 2]


def test_pipe_that_was_closed_from_this_side_is_the_end_of_a_worker(server: Server) -> None:
    run = workers_module._Run([], workers_module._Feed(repeat(REQUEST), 1), None)
    stdout = io.BytesIO()
    stdout.close()
    worker: Any = SimpleNamespace(share=Share(0, 1), process=SimpleNamespace(stdout=stdout))
    run._listen(worker)
    assert run._messages.get_nowait() == (worker, None)
