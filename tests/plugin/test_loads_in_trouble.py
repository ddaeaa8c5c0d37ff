"""Loads whose server, machine or client gets into trouble: a clear outcome, and every finished request is kept."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from itertools import count
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from pytest_modellens.measure import clock, health
from pytest_modellens.truth.client import TruthServer
from tests.plugin.conftest import of
from tests.plugin.fake_server import Chat, FakeServer, fake_server, stream
from tests.plugin.test_interruption import PATIENCE_S, interrupted, started, until
from tests.plugin.test_loads import LENIENT, loaded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.plugin.conftest import Project

on_posix = pytest.mark.skipif(sys.platform == "win32", reason="has no such signals and limits")


@pytest.fixture(autouse=True)
def _machine_may_be_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    # What the client's health is judged by, is for its own tests.
    monkeypatch.setattr(health, "MIN_ACHIEVED", 0.0)
    for name in ("LATE_FLOOR_MS", "STAMPED_FLOOR_MS"):
        monkeypatch.setattr(health, name, 1e9)


@pytest.fixture(scope="module")
def truth() -> Iterator[TruthServer]:
    with TruthServer() as server:
        yield server


def scripted(project: Project, truth: TruthServer, load: str, scenario: dict[str, Any], *options: str) -> Any:
    """Put a load on a server that does what `scenario` says, and return what pytest said."""
    truth.clear()
    more = f"prompt: hi, timeout: 60s, model: 'truth:steady', extra_body: {{truth: {json.dumps(scenario)}}}"
    loaded(project, load, more)
    return project.run(truth.url, *options, name="openai")


def outcomes(project: Project) -> list[str | None]:
    return [record["error_class"] for record in project.result.records]


def kept(project: Project) -> list[str | None]:
    """Return the outcomes of the requests that a load under way has written down until now."""
    written = "".join(file.read_text(encoding="utf-8") for file in project.path.glob("results/*/.load-*.jsonl"))
    return [json.loads(line)["error_class"] for line in written.splitlines(keepends=True) if line.endswith("\n")]


@pytest.mark.parametrize("load", ["concurrency: 16", "rate: 200/s"])
def test_server_that_refuses_every_second_request(project: Project, truth: TruthServer, load: str) -> None:
    scenario = {"refuse_status": 503, "refuse_every": 2, "ttft_ms": 20, "gap_ms": 1, "tokens": 4}
    result = scripted(project, truth, f"{load}, requests: 60", scenario)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "suites/load.yaml:3: 30 of 60 requests failed (30 × http_5xx)",
            "  http://127.0.0.1:*/v1/chat/completions: HTTP 503: scripted refusal (503)",
        ]
    )
    result.stdout.no_fnmatch_line("*stopped early*")
    found = outcomes(project)
    assert (found.count(None), found.count("http_5xx"), len(truth.log())) == (30, 30, 60)
    (cell,) = project.result.meta["cells"]
    assert cell["summary"]["error_rates"].keys() == {"http_5xx"}
    # No refusal is in a latency.
    assert all(record["ttft_ms"] is None for record in project.result.records if not record["ok"])


def test_few_refusals_at_once_do_not_stop_a_load_of_many_streams(project: Project, truth: TruthServer) -> None:
    """Of 96 streams the first 24 to end are all refused, which is not to say that all fail."""
    scenario = {"refuse_status": 503, "refuse_every": 4, "ttft_ms": 400, "tokens": 1}
    scripted(project, truth, "concurrency: 96, requests: 192", scenario).assert_outcomes(failed=1)
    found = outcomes(project)
    assert (found.count(None), found.count("http_5xx")) == (144, 48)
    assert project.result.meta["cells"][0]["stopped"] is None


def test_server_that_becomes_a_hundred_times_as_slow(project: Project, truth: TruthServer) -> None:
    scenario = {"slow_from": 41, "slow_factor": 100, "ttft_ms": 5, "gap_ms": 1, "tokens": 4}
    # Few at a time, so that an instant in which the machine stands still is that of few.
    result = scripted(project, truth, "concurrency: 2, requests: 60", scenario)
    result.assert_outcomes(passed=1)
    told = re.search(r"! changed while it lasted: median TTFT .* ms at first, ([\d,]+) ms at last", result.stdout.str())
    assert told is not None
    assert int(told[1].replace(",", "")) >= 500
    records = sorted(project.result.records, key=lambda record: record["sent_ns"])
    assert [record["ok"] for record in records] == [True] * 60
    assert all(record["ttft_ms"] >= 500 for record in records[42:])
    assert project.result.meta["cells"][0]["summary"]["n_ok"] == len(
        [record for record in records if record["phase"] == "measured"]
    )


def test_server_that_becomes_too_slow_for_the_time_out(project: Project, truth: TruthServer) -> None:
    truth.clear()
    scenario = {"slow_from": 11, "slow_factor": 1000, "ttft_ms": 20, "gap_ms": 1, "tokens": 4}
    # As many at a time as are judged: the time-out is waited for once or twice, and can be long enough for the others.
    more = f"prompt: hi, timeout: 6s, model: 'truth:steady', extra_body: {{truth: {json.dumps(scenario)}}}"
    loaded(project, "concurrency: 20, requests: 900", more)
    result = project.run(truth.url, name="openai")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["suites/load.yaml:3: * requests failed (* × timeout)", "  * requests were not sent: *"]
    )
    found = outcomes(project)
    assert (found.count(None), {*found}) == (10, {None, "timeout"})


def test_server_that_dies_and_comes_back(project: Project) -> None:
    """Its connections break, for a while there is nobody, then it answers again."""
    numbers, lock = count(1), Lock()
    down = range(20, 30)

    def answer(chat: Chat) -> None:
        with lock:
            number = next(numbers)
        if number in down:
            chat.close_connection = True
            chat.connection.close()
            return
        stream("a", "b")(chat)

    loaded(project, "concurrency: 2, requests: 60")
    with fake_server(answer) as server:
        result = project.run(server)
    result.assert_outcomes(failed=1)
    found = outcomes(project)
    # What breaks before any byte on a connection that had been used is asked once more, as HTTP wants it.
    failed = len(found) - found.count(None)
    assert 5 <= failed <= 10
    assert (len(found), {*found} - {None}) == (60, {"truncated"})
    result.stdout.fnmatch_lines([f"suites/load.yaml:3: {failed} of 60 requests failed ({failed} × truncated)"])
    assert project.result.records[-1]["ok"]
    assert project.result.meta["cells"][0]["stopped"] is None


@on_posix
def test_server_whose_process_is_killed_and_started_again(project: Project) -> None:
    """Its connections break, its port refuses, then it answers again; the load goes on all the while."""
    scenario = {"ttft_ms": 1, "gap_ms": 1, "tokens": 2}
    more = f"prompt: hi, timeout: 60s, model: 'truth:steady', extra_body: {{truth: {json.dumps(scenario)}}}"
    loaded(project, "rate: 50/s, duration: 5m, max_error_rate: 1", more)
    with TruthServer() as first, started(project, *of(first.url, "openai")) as process:
        until(lambda: None in kept(project), "an answer")
        port = int(first.root.rpartition(":")[2])
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        psutil.wait_procs([psutil.Process(first.pid)], timeout=PATIENCE_S)
        until(lambda: "connect" in kept(project), "a refusal")
        with TruthServer(port=port) as second:
            until(lambda: kept(project)[-1:] == [None], "an answer again")
            assert second.log()
            os.kill(process.pid, signal.SIGINT)
            output, _ = process.communicate(timeout=PATIENCE_S)
    assert "INTERNALERROR" not in output
    found = outcomes(project)
    down = [at for at, error in enumerate(found) if error == "connect"]
    assert None in found[: down[0]]
    assert None in found[down[-1] :]
    assert {*found} <= {None, "connect", "truncated", "protocol", "cancelled"}


def test_wall_clock_that_is_set_during_a_load(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernel stamps of requests that saw the step are worth nothing; everything else is."""
    real, asked = clock.realtime_offset_ns, count()

    def stepped() -> int:
        return real() + (3600 * 10**9 if next(asked) >= 25 else 0)

    for name in ("client", "exchange"):
        monkeypatch.setattr(f"pytest_modellens.measure.{name}.realtime_offset_ns", stepped)
    loaded(project, "concurrency: 2, requests: 30")
    project.run(server).assert_outcomes(passed=1)
    records = project.result.records
    assert [record["ok"] for record in records] == [True] * 30
    told = [record["clock_note"] for record in records if "the wall clock was set by" in (record["clock_note"] or "")]
    assert all(0 <= record["ttft_ms"] < 60_000 and 0 <= record["total_time_ms"] < 60_000 for record in records)
    if any(record["clock"] == "kernel" for record in records):
        assert 1 <= len(told) <= 2
        assert "+3600000" in told[0]


LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
"""


@on_posix
@pytest.mark.parametrize("workers", ["1", "2"])
def test_more_streams_than_this_process_may_open_files(project: Project, server: FakeServer, workers: str) -> None:
    project.pytester.makeconftest(LIMITED + LENIENT)
    loaded(project, "concurrency: [8, 1024], requests: 1024")
    result = project.run_apart(server, f"--modellens-workers={workers}")
    result.assert_outcomes(passed=1, failed=1)
    each = 1024 // int(workers)
    needed = f"load: {each:,} requests in flight need * file descriptors, and this process may open 256"
    result.stdout.fnmatch_lines([f"suites/load.yaml:3: {needed} (raise the limit with: ulimit -n *)"])
    result.stdout.no_fnmatch_line("*Traceback*")
    assert len(server.chats) == len(project.result.records) == 1024  # of the first cell


def test_cells_of_one_server_never_overlap_under_xdist(project: Project) -> None:
    pytest.importorskip("xdist")
    asked: list[tuple[float, str]] = []

    def answer(chat: Chat) -> None:
        asked.append((time.monotonic(), chat.body["messages"][-1]["content"]))
        time.sleep(0.01)
        stream("a")(chat)

    project.pytester.makeconftest(LENIENT)
    for name in "abcd":
        loaded(project, "concurrency: 2, requests: 12", f"prompt: {name}", name=f"suites/{name}.yaml")
    with fake_server(answer) as server:
        project.run_apart(server, "-n", "2").assert_outcomes(passed=4)
    order = [prompt for _, prompt in sorted(asked)]
    assert len(order) == 48
    # Each cell is one block.
    assert [prompt for at, prompt in enumerate(order) if order[at - 1 : at] != [prompt]] == [*dict.fromkeys(order)]
    assert {record["worker"] for record in project.result.records} == {"gw0", "gw1"}


@on_posix
@pytest.mark.parametrize("interrupt", [os.kill, os.killpg], ids=["controller", "terminal"])
def test_ctrl_c_under_xdist_while_another_worker_waits_for_the_server(
    project: Project, interrupt: Callable[[int, int], None]
) -> None:
    pytest.importorskip("xdist")
    for name in "ab":
        loaded(project, "concurrency: 2, requests: 50", name=f"suites/{name}.yaml")
    output = interrupted(project, "-n2", interrupt=interrupt)
    assert outcomes(project) == [None] * 3 + ["cancelled"] * 2
    (cell,) = project.result.meta["cells"]
    assert cell["stopped"] == "interrupted"
    assert "✗ stopped early: interrupted" in output


@on_posix
def test_client_process_that_is_killed_loses_what_it_had_under_way_and_nothing_else(project: Project) -> None:
    release, numbers = Event(), count(1)

    def hold_from_the_eleventh(chat: Chat) -> None:
        if next(numbers) > 10:
            release.wait(PATIENCE_S)
        stream("a", "b")(chat)

    project.pytester.makeconftest(LENIENT)
    loaded(project, "concurrency: 4, requests: 40", "prompt: hi, timeout: 60s")
    with (
        fake_server(hold_from_the_eleventh) as server,
        started(project, *of(server), "--modellens-workers=2") as process,
    ):
        until(lambda: len(server.chats) == 14, "four held requests")
        until(lambda: len(project.result.records) == 10, "the records of those before")
        children = psutil.Process(process.pid).children()
        first = min(
            (child for child in children if "pytest_modellens.load.worker" in child.cmdline()),
            key=psutil.Process.create_time,
        )
        first.kill()
        release.set()
        output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == pytest.ExitCode.TESTS_FAILED, output
    assert "load worker 0 ended early (killed by signal 9)" in output
    assert "INTERNALERROR" not in output
    found = outcomes(project)
    # Its two streams were held; the other process lost nothing.
    assert found.count("cancelled") == 2
    assert found.count(None) == len(found) - 2 >= 20
