"""Runs that keep their raw bytes, and are derived again from them."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import time
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.cassette import writer
from pytest_modellens.cli import main
from pytest_modellens.load import summary
from pytest_modellens.stats.transient import mser5
from pytest_modellens.storage import read_run
from tests.fault_server import SSE, FaultServer, Read, Reset, Step, Wait, chunk, sse
from tests.plugin.conftest import of
from tests.plugin.fake_server import Chat, fake_server, has_read, stream
from tests.plugin.test_adapters import install
from tests.plugin.test_interruption import PATIENCE_S, slow_after, started, until
from tests.plugin.test_loads import LENIENT

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_modellens.storage import Run
    from tests.plugin.conftest import Project
    from tests.plugin.fake_server import FakeServer

    Again = Callable[..., tuple[Run, Run, str]]

CASSETTE = "--modellens-cassette=cassettes"
EVENT = '{"model": "m", "choices": [{"delta": {"content": "Par"}}]}'


pytestmark = pytest.mark.usefixtures("machine_may_be_busy")


@pytest.fixture
def again(project: Project, capsys: pytest.CaptureFixture[str]) -> Again:
    """Recompute the only run, and return it, the new run, and what was printed."""

    def recompute(*arguments: str, status: int = 0) -> tuple[Run, Run, str]:
        (before,) = project.folders
        capsys.readouterr()
        assert main(["recompute", str(before), *arguments]) == status
        after = next(folder for folder in project.folders if folder != before)
        return read_run(before), read_run(after), capsys.readouterr().out

    return recompute


def same(again: Again, *, requests: int) -> Run:
    """Check that a run recomputed by the same definitions is the same run, and return it."""
    before, after, said = again()
    assert after.records == before.records
    assert after.meta["cells"] == before.meta["cells"]
    assert [record["cassette_note"] for record in after.records] == [None] * requests
    assert f": {requests} records derived again (metric definitions 1)\nnothing differs\n\nresults: " in said
    assert after.meta["recomputed"] == {"from": before.folder.name, "measured_at": before.meta["started_at"]}
    return after


@pytest.mark.parametrize("rounds", ["rounds: 2, warmup: 1", "rounds: 6, warmup: 1, concurrency: 3"])
def test_real_server_s_records_come_out_the_same(project: Project, llama_url: str, again: Again, rounds: str) -> None:
    project.suite(
        f"defaults: {{max_tokens: 8, {rounds}}}\ncases:\n- {{name: a, prompt: hi}}\n"
        "- {name: b, prompt: hi, stream: false, expect: {contains: certainly-not}}\n"
    )
    result = project.run(llama_url, CASSETTE)
    result.assert_outcomes(passed=1, failed=1)
    total = len(project.result.records)
    result.stdout.fnmatch_lines(
        [
            f"cassette: cassettes/2*-llamacpp ({total} requests, * KiB)",
            "derive the records again: modellens recompute 2*-llamacpp",
        ]
    )
    after = same(again, requests=total)
    assert after.folder.name.endswith("-llamacpp-recomputed")
    assert {path.name for path in after.folder.iterdir()} >= {"run.json", "requests.csv", "summary.csv", "hardware.csv"}
    (cassettes,) = project.path.glob("cassettes/2*")
    assert [path.name for path in cassettes.iterdir()] == ["main.cassette"]
    assert (project.path / "cassettes" / ".gitignore").read_text() == "*\n!.gitignore\n"


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    "load", ["concurrency: 4, requests: 40, warmup: 3", "rate: 200/s, requests: 30, arrival: poisson, max_in_flight: 8"]
)
def test_load_comes_out_the_same(project: Project, server: FakeServer, again: Again, workers: str, load: str) -> None:
    project.suite(
        f"cases:\n- {{name: a, prompt: hi, slo: {{ttft_ms: 60000}}, expect: {{contains: Paris}}, load: {{{load}}}}}\n"
    )
    project.run(server, CASSETTE, f"--modellens-workers={workers}").assert_outcomes(passed=1)
    after = same(again, requests=len(project.result.records))
    (cell,) = after.meta["cells"]
    assert cell["summary"]["n_good"] == cell["summary"]["n_ok"] > 0
    names = {record["cassette"].partition(":")[0] for record in after.records}
    assert names == ({"main.cassette"} if workers == "1" else {"main-load0.cassette", "main-load1.cassette"})


def test_transient_of_a_load_is_found_again(project: Project, again: Again, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow_at_first(chat: Chat) -> None:
        time.sleep(0.1 if chat.number <= 10 else 0.001)
        stream("hi")(chat)

    # An instant in which the machine stands still must not be slower than what is meant to be slow.
    monkeypatch.setattr(summary, "mser5", lambda values: mser5([min(value, 100.0) for value in values]))
    project.suite("cases:\n- {name: a, prompt: hi, load: {concurrency: 1, requests: 100}}\n")
    with fake_server(slow_at_first) as server:
        project.run(server, CASSETTE)
    after = same(again, requests=100)
    assert {record["phase"] for record in after.records} == {"measured", "transient"}


def test_xdist_workers_keep_files_of_their_own(project: Project, server: FakeServer, again: Again) -> None:
    project.pytester.makeconftest(LENIENT)
    project.suite(
        "defaults: {rounds: 2}\ncases:\n"
        + "".join(f"- {{name: {name}, prompt: hi}}\n" for name in "abcd")
        + "- {name: e, prompt: hi, load: {concurrency: [1, 2], requests: 6}}\n"
    )
    project.run_apart(server, CASSETTE, "-n", "2").assert_outcomes(passed=6)
    after = same(again, requests=24)
    assert {record["cassette"].partition(":")[0] for record in after.records} == {"gw0.cassette", "gw1.cassette"}


def test_test_of_one_s_own_comes_out_the_same(project: Project, server: FakeServer, again: Again) -> None:
    project.write(
        "test_own.py",
        """
        from pytest_modellens import RunRequest

        def test_own(modellens, model):
            for stream in (True, False):
                modellens.run(RunRequest("hi", model, stream=stream))
        """,
    )
    project.run(server, CASSETTE, "test_own.py").assert_outcomes(passed=1)
    same(again, requests=2)


FAILURES: dict[str, list[Step]] = {
    "refused": [Read(), b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy"],
    "stalled": [Read(), SSE, chunk(sse(EVENT)[0]), Wait()],
    "truncated": [Read(), SSE, chunk(sse(EVENT)[0]), chunk(b"data: {")],
    "reset": [Read(), SSE, chunk(sse(EVENT)[0]), Wait(0.05), Reset()],
    "error in the stream": [
        Read(),
        SSE,
        *map(chunk, sse(EVENT, '{"error": {"message": "out of memory"}}')),
        b"0\r\n\r\n",
    ],
    "not HTTP": [Read(), b"SSH-2.0-OpenSSH\r\n"],
    "chunk damaged": [Read(), SSE, chunk(sse(EVENT)[0]), b"zz\r\n" + chunk(sse(EVENT)[0]), b"0\r\n\r\n"],
    "no JSON": [Read(), SSE, chunk(b"data: hello\n\n"), b"0\r\n\r\n"],
    "empty": [Read()],
    "headers cut": [Read(), b"HTTP/1.1 200 OK\r\nSet-Cookie: session=abcdef\r\n"],
    "wrong model": [Read(), SSE, *map(chunk, sse(EVENT, "[DONE]")), b"0\r\n\r\n"],
    "framed by close": [Read(), b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", *sse(EVENT, "[DONE]")],
}


@pytest.mark.parametrize("name", FAILURES)
def test_failed_request_comes_out_the_same(project: Project, again: Again, name: str) -> None:
    patience = "100ms" if name == "stalled" else "60s"
    project.suite(
        f"""
        defaults: {{prompt: hi, stall_timeout: {patience}}}
        cases:
        - {{name: one-by-one, warmup: 0, rounds: 2}}
        - {{name: at-once, warmup: 0, rounds: 4, concurrency: 2}}
        - {{name: loaded, load: {{concurrency: 2, requests: 4}}}}
        """
    )
    model = "other" if name == "wrong model" else "m"
    with FaultServer(FAILURES[name]) as server:
        project.run(f"{server.url}/v1", CASSETTE, f"--modellens-model={model}")
    run = project.result
    assert {record["error_class"] is None for record in run.records} == {name == "framed by close"}
    same(again, requests=len(run.records))


NOBODY = """
import pytest
from pytest_modellens import RunRequest
from pytest_modellens.errors import ConnectError
from pytest_modellens.providers.vllm import VLLMProvider

@pytest.fixture
def provider():
    return VLLMProvider("http://127.0.0.1:{port}/v1")

def test_own(modellens):
    with pytest.raises(ConnectError):
        modellens.run(RunRequest("hi", "m"))
"""


def test_server_that_is_not_there_comes_out_the_same(project: Project, again: Again) -> None:
    with socket.socket() as bound:  # so that the port is nobody's, and nobody listens
        bound.bind(("127.0.0.1", 0))
        project.write("test_own.py", NOBODY.format(port=bound.getsockname()[1]))
        project.run("http://127.0.0.1:1/v1", CASSETTE, "test_own.py", name="vllm").assert_outcomes(passed=1)
    after = same(again, requests=1)
    assert after.records[0]["timeline"] is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what another program has read")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_requests_given_up_by_ctrl_c_come_out_the_same(project: Project, again: Again, workers: str) -> None:
    begun: list[socket.socket] = []

    def one_word_from_the_fourth(chat: Chat) -> None:
        if chat.number < 4:
            stream("quick")(chat)
            return
        chat.begin_stream()
        chat.event({"model": "fake", "choices": [{"delta": {"content": "slow"}}]})
        begun.append(chat.connection)
        time.sleep(PATIENCE_S)

    project.pytester.makeconftest(LENIENT)
    project.suite("cases:\n- {name: a, prompt: hi, load: {concurrency: 2, requests: 50}}\n")
    with (
        fake_server(one_word_from_the_fourth) as server,
        started(project, *of(server), CASSETTE, f"--modellens-workers={workers}") as process,
    ):
        until(lambda: len(begun) == 2 and all(map(has_read, begun)), "two slow requests")
        os.kill(process.pid, signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)
    after = same(again, requests=5)
    ended = Counter((record["error_class"], record["response"]) for record in after.records)
    assert ended == {(None, "quick"): 3, ("cancelled", "slow"): 2}


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
@pytest.mark.parametrize("how", ["rounds: 9, warmup: 1", "load: {concurrency: 1, requests: 9, warmup: 1}"])
def test_requests_of_a_killed_run_get_records_after_all(project: Project, again: Again, how: str) -> None:
    project.suite(f"cases:\n- {{name: a, prompt: hi, rounds: 1, warmup: 0}}\n- {{name: b, prompt: hi, {how}}}\n")
    with fake_server(slow_after(5)) as server, started(project, *of(server), CASSETTE) as process:
        until(lambda: len(server.chats) == 5, "the fifth request")
        if "load" in how:
            until(lambda: len(project.result.records) == 4, "the records of those before")
        process.kill()
        process.wait(PATIENCE_S)
    for left in project.path.glob("results/*/.load-*"):
        left.unlink()  # what the load had measured is there without a cassette too
    (tape,) = project.path.glob("cassettes/*/main.cassette")
    tape.write_bytes(tape.read_bytes() + b"\xabMLC\x00\x00")
    before, after, said = again()
    assert len(before.records) == 1
    assert after.records[0] == before.records[0]
    rescued = after.records[1:]
    assert [(r["case"], r["phase"], r["round"], r["ok"], r["response"]) for r in rescued] == [
        ("b", "warmup", 0, True, "quick"),
        ("b", "measured", 0, True, "quick"),
        ("b", "measured", 1, True, "quick"),
    ]
    assert (
        "4 records derived again (metric definitions 1)\nof these, 3 had no record before (the run was cut off)" in said
    )
    assert "on, is cut off or damaged; the 4 before it are whole" in said
    assert len(after.meta["cells"]) == ("load" in how)


def test_adapter_s_requests_are_said_not_to_be_kept(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(project)
    monkeypatch.syspath_prepend(str(project.path))
    project.suite("cases:\n- {name: a, prompt: hi}\n- {name: b, prompt: hi, load: {concurrency: 2, requests: 4}}\n")
    result = project.run(None, "--provider", "echo", CASSETTE)
    result.stdout.fnmatch_lines(
        ["cassette: cassettes/*-echo (0 requests, *", "not in the cassette: * the adapter has a *"]
    )
    run = project.result
    assert {(record["cassette"], record["cassette_note"]) for record in run.records} == {
        (None, "the adapter has a client of its own, so there are no raw bytes")
    }
    assert main(["recompute", str(run.folder)]) == 1
    assert "so nothing can be recomputed; the adapter has a client of its own" in capsys.readouterr().err
    assert project.folders == [run.folder]


def test_cassette_that_reaches_its_limit_keeps_what_came_before(
    project: Project, server: FakeServer, again: Again
) -> None:
    project.suite("cases:\n- {name: a, prompt: hi, rounds: 8, warmup: 0}\n")
    result = project.run(server, CASSETTE, "--modellens-cassette-limit=3kB")
    result.assert_outcomes(passed=1)
    before, after, said = again()
    kept = [record["cassette"] is not None for record in before.records]
    assert True in kept
    assert kept == sorted(kept, reverse=True) != [True] * 8
    note = "the cassette has reached its limit of 2.93 KiB (raise --modellens-cassette-limit)"
    assert {record["cassette_note"] for record in before.records} == {None, note}
    result.stdout.fnmatch_lines([f"not in the cassette: {kept.count(False)} requests, {note}"])
    assert before.meta["cassette"]["not_kept"] == {note: kept.count(False)}
    assert sum(path.stat().st_size for path in project.path.glob("cassettes/2*/*")) <= 3000
    assert after.records == before.records
    assert f"{kept.count(False)} records have no raw bytes; carried over as they were\nnothing differs" in said


def test_load_of_which_only_a_part_was_kept_comes_out_the_same(
    project: Project, server: FakeServer, again: Again
) -> None:
    project.suite("cases:\n- {name: a, prompt: hi, load: {concurrency: 3, requests: 40, warmup: 2}}\n")
    project.run(server, CASSETTE, "--modellens-cassette-limit=9kB").assert_outcomes(passed=1)
    before, after, said = again()
    assert 0 < sum(record["cassette"] is None for record in before.records) < 42
    assert after.records == before.records
    assert after.meta["cells"] == before.meta["cells"]
    assert "nothing differs" in said


def test_disk_that_fills_up_costs_the_raw_bytes_and_not_the_measurement(
    project: Project, server: FakeServer, again: Again, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, numbers = os.write, count()

    def full(descriptor: int, data: bytes) -> int:
        if bytes(data[:4]) == b"\xabMLC" and next(numbers) == 1:
            write(descriptor, data[:20])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    monkeypatch.setattr("pytest_modellens.cassette.tape.os.write", full)
    project.suite("cases:\n- {name: a, prompt: hi, rounds: 3, warmup: 0}\n")
    result = project.run(server, CASSETTE)
    result.assert_outcomes(passed=1)
    note = "the cassette could not be written (No space left on device)"
    result.stdout.fnmatch_lines([f"not in the cassette: 1 requests, {note}"])
    before, after, said = again()
    assert [record["cassette_note"] for record in before.records] == [None, note, None]
    assert after.records == before.records
    assert "note:" not in said


@pytest.mark.parametrize("what", ["file", "folder that may not be written"])
def test_place_that_can_hold_no_cassettes_stops_the_run_before_it_begins(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    project.case()
    if what == "file":
        project.write("cassettes", "not a folder")
    else:  # which permissions would not be to the administrator

        def denied(*_: object) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        monkeypatch.setattr(writer, "make_folder", denied)
    result = project.run(server, CASSETTE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: *cassettes: cannot hold cassettes (*; choose another folder with --modellens-cassette)"]
    )
    result.stderr.no_fnmatch_line("*Traceback*")
    assert server.connections == 0
    assert project.folders == []


def test_run_that_measures_nothing_leaves_no_cassette(project: Project, server: FakeServer) -> None:
    project.case()
    project.run(server, CASSETTE, "-k", "nothing")
    assert [*project.path.glob("cassettes/2*")] == []


def test_two_runs_of_one_name_have_a_cassette_each(project: Project, server: FakeServer) -> None:
    project.case()
    (project.path / "cassettes").mkdir()
    for results in ("one", "two"):
        project.run(server, CASSETTE, f"--modellens-results={results}", "--modellens-run-name=x")
    folders = [*project.path.glob("cassettes/2*")]
    assert len(folders) == 2
    assert not (project.path / "cassettes" / ".gitignore").exists()


def test_cassette_that_was_taken_away_meanwhile_is_said(project: Project, server: FakeServer) -> None:
    project.case("rounds: 2")
    project.write(
        "conftest.py",
        """
        import shutil

        def pytest_modellens_report(config, records, directory):
            shutil.rmtree("cassettes")
        """,
    )
    result = project.run(server, CASSETTE)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["cassette: cassettes/2*-llamacpp cannot be read (No such file or directory)"])
    assert len(project.result.records) == 2
