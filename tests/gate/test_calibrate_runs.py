"""`modellens calibrate`: what it runs, what it says, and what is left when it is stopped."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from pytest_modellens.cli import main
from pytest_modellens.errors import ConfigError
from pytest_modellens.gate.calibrate_runs import InterruptedCalibration, Plan, measure
from pytest_modellens.gate.calibrations import read_calibrations
from tests.plugin.fake_server import fake_server, stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.plugin.fake_server import FakeServer

SUITE = (
    "defaults: {max_tokens: 4, rounds: 1, warmup: 0}\ncases:\n- {name: a, prompt: Hello.}\n- {name: b, prompt: Hi.}\n"
)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server(stream("Par", "is", "!")) as fake:
        yield fake


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [*os.environ]:
        if name.startswith("MODELLENS_") or name in {"PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "s.yaml").write_text(SUITE)
    # A gate and options of the project must not judge what is measured here.
    (tmp_path / "pytest.ini").write_text("[pytest]\nmodellens_gate = ttft_ms:+1%\naddopts = --no-such-option\n")
    monkeypatch.setenv("MODELLENS_GATE", "ttft_ms:+1%")
    return tmp_path


def test_server_is_measured_in_sessions(project: Path, server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    at = f"--provider=llamacpp={server.url}"
    assert main(["calibrate", at, "--sessions=3", "--rounds=4", "--pause=0.1s"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "3 sessions of 1 server start: 3 runs of pytest, 2 cells with 4 requests",
        "each, 24 requests in all, and their warm-up; Ctrl-C keeps what there is",
        "between sessions it waits, 0 min in all",
    ]
    assert [line.partition(":")[0] for line in lines[4:7]] == [
        f"session {number} of 3, start 1 of 1" for number in (1, 2, 3)
    ]
    assert lines[7].startswith("calibration from 3 sessions, 3 runs and 24 requests within 0")
    assert len(server.chats) == 24
    (kept,) = read_calibrations(project / "results").values()
    assert [len(session) for session in kept.sessions] == [1, 1, 1]
    assert {"ttft_ms", "total_time_ms"} <= kept.metrics.keys()


def test_plan_alone_measures_nothing(project: Path, server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    serve = f"--serve=llamacpp=serve {server.url} {{port}}"
    arguments = ["calibrate", "suites/s.yaml", serve, "--plan", "--pytest=--deselect 'suites/s.yaml::b'"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("5 sessions of 2 server starts: 10 runs of pytest, 1 cell with 20 reque")
    assert server.chats == []
    assert not (project / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "calibrate: which server? (--provider local, --provider vllm, --serve COMMAND, or recorded runs: --from)"),
        (["--provider=vllm", "--sessions=2"], "--sessions: must be 3 or more (got 2; 5 or more are better)"),
        (
            ["--provider=x:vllm=http://h/v1", "--starts=2"],
            "--starts: x:vllm=http://h/v1 runs already, and is not start",
        ),
        (
            ["--provider=vlm"],
            "calibrate: pytest finds nothing to run (exit status 4):\n  ERROR: --provider: unknown pr",
        ),
        (["--provider=vllm", "none.yaml"], "calibrate: pytest finds nothing to run (exit status 4):\n"),
        (["--provider=vllm", "--pytest=-k none"], "calibrate: pytest finds nothing to run (exit status 5):\n"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["calibrate", *arguments]) == 1
    told = capsys.readouterr()
    assert told.err.startswith(f"modellens: {message}")
    assert "Traceback" not in told.err


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--pause=soon", "must be a duration such as 90s, 10m or 1.5h (got 'soon')"),
        ("--sessions=0", "must be a whole number from 1 on (got '0')"),
        ("--rounds=x", "must be a whole number from 1 on (got 'x')"),
        ("--pytest='", 'must be words as in a shell: No closing quotation (got "\'")'),
    ],
)
def test_wrong_usage_is_told(argument: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["calibrate", argument])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_run_that_fails_ends_it_and_shows_why(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--provider=llamacpp=http://127.0.0.1:9/v1"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("modellens: calibrate: a run failed (exit status 1):\n")
    assert "127.0.0.1:9" in told


class Sleeping(Plan):
    """Runs that last until they are ended."""

    def command(self, _: str) -> list[str]:
        return [sys.executable, "-c", "import time; time.sleep(600)"]


def test_ctrl_c_ends_the_run_that_goes_on(tmp_path: Path) -> None:
    others = {*psutil.Process().children()}
    found: set[psutil.Process] = set()

    def say(text: str) -> None:
        assert text.startswith("session 1 of 3, start 1 of 1 · 0:")
        found.update({*psutil.Process().children()} - others)
        raise KeyboardInterrupt

    with pytest.raises(InterruptedCalibration) as caught:
        measure(Sleeping((), tmp_path, 3, 1, 1), say=say, tell=lambda _: None)
    assert caught.value.sessions == []
    assert found
    assert not any(one.is_running() for one in found)


@pytest.mark.parametrize(("finished", "status"), [(0, 130), (2, 130), (3, 130)])
def test_ctrl_c_keeps_what_there_is(
    project: Path,
    server: FakeServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    finished: int,
    status: int,
) -> None:
    waits = iter(range(finished - 1))

    def wait(*_: Any) -> None:
        try:
            next(waits)
        except StopIteration:
            raise KeyboardInterrupt from None

    if finished:
        monkeypatch.setattr("pytest_modellens.gate.calibrate_runs._pause", wait)
    else:
        monkeypatch.setattr("pytest_modellens.gate.calibrate_runs._run", wait)
        waits = iter(())
    at = f"--provider=llamacpp={server.url}"
    assert main(["calibrate", at, "--sessions=4", "--rounds=3"]) == status
    lines = capsys.readouterr().out.splitlines()
    runs = [folder.name for folder in sorted((project / "results").glob("*-calibrate-*"))]
    assert len(runs) == finished
    assert len(read_calibrations(project / "results")) == (finished == 3)
    if finished == 2:
        assert lines[-2:] == [
            "stopped after 2 of the 3 sessions that are needed; their runs are kept:",
            f"  modellens calibrate --from {' '.join(runs)} …",
        ]
    if finished == 3:
        assert "stopped after 3 sessions" in lines


def test_progress_says_how_long_it_will_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    now_s = [0.0]

    def run(plan: Plan, name: str, tick: Any) -> Path:
        tick()
        return tmp_path / name

    def sleep(seconds: float) -> None:
        now_s[0] += seconds

    clock = SimpleNamespace(monotonic=lambda: now_s[0], sleep=sleep)
    monkeypatch.setattr("pytest_modellens.gate.calibrate_runs.time", clock)
    monkeypatch.setattr("pytest_modellens.gate.calibrate_runs._run", run)
    measure(Plan((), tmp_path, 2, 2, 1, pause_s=0.01), say=said.append, tell=said.append)
    assert said[0] == "session 1 of 2, start 1 of 2 · 0:00"
    assert said[2] == "session 1 of 2, start 2 of 2 · 0:00, about 0:00 left"
    assert "session 2 of 2 begins in 0:00" in said


def test_run_that_does_not_listen_is_ended_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Deaf(Sleeping):
        def command(self, _: str) -> list[str]:
            script = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(600)"
            return [sys.executable, "-c", script]

    monkeypatch.setattr("pytest_modellens.gate.calibrate_runs._PATIENCE_S", 0.1)
    others = {*psutil.Process().children()}
    ticks = iter(range(3))

    def say(_: str) -> None:
        if next(ticks, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(InterruptedCalibration):
        measure(Deaf((), tmp_path, 3, 1, 1), say=say, tell=lambda _: None)
    assert not {*psutil.Process().children()} - others


def test_error_of_a_run_cannot_steer_the_terminal(tmp_path: Path) -> None:
    class Rude(Plan):
        def command(self, _: str) -> list[str]:
            return [sys.executable, "-c", "print('\\x1b[2Jgone'); raise SystemExit(3)"]

    with pytest.raises(ConfigError) as caught:
        measure(Rude((), tmp_path, 3, 1, 1), say=lambda _: None, tell=lambda _: None)
    assert str(caught.value) == "calibrate: a run failed (exit status 3):\n  \\x1b[2Jgone"
