"""Runs that end before their end: what was measured is kept, and no server outlives them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
import pytest

from pytest_modellens.cli import main
from pytest_modellens.storage import read_run
from tests.plugin.conftest import of
from tests.plugin.fake_server import Chat, fake_server, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.plugin.conftest import Project

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")

PATIENCE_S = 120.0


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.02)


@contextmanager
def started(project: Project, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run pytest in a process of its own, as the leader of a group, which is gone afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=project.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def servers(pid: int) -> list[psutil.Process]:
    """Return the model servers among the descendants of a process."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        try:
            if any(part.endswith("child.py") for part in child.cmdline()):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def slow_after(number: int) -> Callable[[Chat], None]:
    """Return an answerer that, from request `number` on, begins to answer and never ends."""

    def answer(chat: Chat) -> None:
        if chat.number < number:
            stream("quick")(chat)
            return
        chat.begin_stream()
        chat.event({"model": "fake", "choices": [{"delta": {"content": "slow"}}]})
        time.sleep(PATIENCE_S)

    return answer


def interrupted(
    project: Project,
    *options: str,
    quick: int = 3,
    under_way: int = 2,
    interrupt: Callable[[int, int], None] = os.kill,
) -> str:
    """Run pytest, and interrupt it when `quick` requests have ended and the others never will; return what it said."""
    with fake_server(slow_after(quick + 1)) as server, started(project, *of(server), *options) as process:
        until(lambda: len(server.chats) == quick + under_way, f"{under_way} slow requests")
        interrupt(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output
    assert "INTERNALERROR" not in output
    return output


def test_ctrl_c_in_a_cell_keeps_its_finished_requests(project: Project) -> None:
    project.case("rounds: 10, timeout: 60s")
    output = interrupted(project, under_way=1)
    assert "KeyboardInterrupt" in output
    assert [record["ok"] for record in project.result.records] == [True] * 3
    assert project.result.meta["ended_at"]
    assert project.result.meta["exit_status"] == 2
    assert "\nresults: results/" in output
    assert (project.result.folder / "summary.csv").is_file()


def test_ctrl_c_among_concurrent_requests_keeps_those_under_way_as_cancelled(project: Project) -> None:
    project.case("rounds: 10, concurrency: 2, timeout: 60s")
    interrupted(project)
    outcomes = [record["error_class"] for record in project.result.records]
    assert outcomes == [None] * 3 + ["cancelled"] * 2


@pytest.mark.usefixtures("small_files")
def test_ctrl_c_with_a_full_disk_is_still_ctrl_c(project: Project) -> None:
    project.case("rounds: 10, timeout: 60s")
    output = interrupted(project, quick=5, under_way=1)
    assert "requests.jsonl: 5 lines were lost (File too large)" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("more", [[], ["-n", "2"]], ids=["alone", "two workers"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_local_server_is_gone_after(
    project: Project, tiny_model: Path, number: signal.Signals, more: list[str]
) -> None:
    project.case("rounds: 1000, max_tokens: 1500, timeout: 60s")
    arguments = ("--provider=local", f"--modellens-model={tiny_model}", *more)
    with started(project, *arguments) as process:
        until(lambda: servers(process.pid), "a server")
        alive = servers(process.pid)
        workers = psutil.Process(process.pid).children(recursive=True)
        # A terminal's Ctrl-C goes to the whole group.
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        process.wait(PATIENCE_S)
        _, left = psutil.wait_procs([*alive, *workers], timeout=PATIENCE_S)
    assert left == []


def test_killed_run_is_readable_and_said_to_be_cut_off(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.suite(
        "defaults: {rounds: 2, warmup: 0, timeout: 60s}\ncases:\n- {name: a, prompt: hi}\n- {name: b, prompt: hi}\n"
    )
    with fake_server(slow_after(3)) as server, started(project, *of(server)) as process:
        until(lambda: len(server.chats) == 3, "the third request")
        process.kill()
        process.wait(PATIENCE_S)
    (folder,) = project.folders
    run = read_run(folder)
    assert [record["case"] for record in run.records] == ["a", "a"]
    assert run.problems == []
    assert run.meta["ended_at"] is None
    results = ["--results", str(project.path / "results")]
    assert main(["list", *results]) == 0
    assert "cut off, or still running" in capsys.readouterr().out
    assert main(["show", *results]) == 0
    shown = capsys.readouterr().out
    assert "a  " in shown
    assert "the run was cut off" in shown
    assert main(["report", *results, "--csv"]) == 0
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert "Cut off: 2 requests in 1 cell, none failed" in html
    assert "<dd>cut off, or still running</dd>" in html
    assert (folder / "summary.csv").is_file()


def test_pytest_exit_in_a_test_keeps_what_it_measured(project: Project) -> None:
    project.write(
        "test_exit.py",
        """
        import pytest
        from pytest_modellens import RunRequest

        def test_exit(modellens, model):
            modellens.run(RunRequest("hi", model))
            pytest.exit("enough", returncode=7)
        """,
    )
    with fake_server(stream("ok")) as server:
        result = project.run(server)
    assert result.ret == 7
    assert len(project.result.records) == 1
