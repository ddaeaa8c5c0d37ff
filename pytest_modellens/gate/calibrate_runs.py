"""Runs for a calibration: pytest, once for every start of the server, as a user would call it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pytest_modellens.errors import ConfigError
from pytest_modellens.storage import find_run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Say = Callable[[str], None]

__all__ = ["InterruptedCalibration", "Plan", "count_tests", "measure"]

_TICK_S = 0.5
_PATIENCE_S = 20.0
_TAIL = 15
_COLLECTED = re.compile(r"^(\d+)(?:/\d+)? tests? collected", re.MULTILINE)


class InterruptedCalibration(Exception):  # noqa: N818  # nothing went wrong
    """Somebody pressed Ctrl-C; `sessions` holds the runs that were finished."""

    def __init__(self, sessions: list[list[Path]]) -> None:
        self.sessions = sessions
        super().__init__()


@dataclass(frozen=True)
class Plan:
    """What is to be measured."""

    arguments: tuple[str, ...]
    """Of pytest: the suites, the server, and what else the user wants."""
    results: Path
    sessions: int
    starts: int
    """Of the server in each session."""
    rounds: int
    """Requests of each case and start."""
    pause_s: float = 0.0
    """Between sessions."""

    @property
    def runs(self) -> int:
        """How often pytest is called."""
        return self.sessions * self.starts

    def command(self, name: str) -> list[str]:
        """Return the command of one run; whatever an ini file says, it is not judged and uses no workers."""
        own = ["--modellens-strict", f"--modellens-rounds={self.rounds}", f"--modellens-results={self.results}"]
        own += [f"--modellens-run-name={name}", "--modellens-report=off", "-o", "modellens_gate=", "-o", "addopts="]
        return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *own, *self.arguments]


def count_tests(plan: Plan) -> int:
    """Return how many tests one run has; each is one cell.

    Raises:
        ConfigError: pytest refuses its arguments, or finds no test.
    """
    status, output = _finish([*plan.command("plan"), "--collect-only"], lambda: None)
    found = _COLLECTED.search(output)
    if status or found is None:
        raise ConfigError(f"calibrate: pytest finds nothing to run (exit status {status}):\n{_tail(output)}")
    return int(found[1])


def measure(plan: Plan, *, say: Say, tell: Say) -> list[list[Path]]:
    """Return the folders of the runs, by session.

    Args:
        plan: what to run.
        say: is told what goes on now, twice a second.
        tell: is told of each run that was finished.

    Raises:
        ConfigError: a run failed.
        InterruptedCalibration: by Ctrl-C.
    """
    stamp = f"{datetime.now(UTC):%Y%m%dt%H%M%S}"
    sessions: list[list[Path]] = []
    spent_s = 0.0
    try:
        for session in range(1, plan.sessions + 1):
            if sessions:
                _pause(plan.pause_s, f"session {session} of {plan.sessions} begins", say)
            sessions.append([])
            for start in range(1, plan.starts + 1):
                what = f"session {session} of {plan.sessions}, start {start} of {plan.starts}"
                began, done = time.monotonic(), sum(map(len, sessions))
                mean_s = spent_s / done if done else None
                folder = _run(
                    plan, f"calibrate-{stamp}-{session}-{start}", _ticker(say, what, mean_s, plan.runs - done)
                )
                spent_s += time.monotonic() - began
                sessions[-1].append(folder)
                tell(f"{what}: {folder.name}")
    except KeyboardInterrupt:
        raise InterruptedCalibration([session for session in sessions if session]) from None
    return sessions


def _ticker(say: Say, what: str, mean_s: float | None, left: int) -> Callable[[], None]:
    """Return what shows how long a run takes, and how long all that are `left` will take, pauses aside."""
    began = time.monotonic()

    def tick() -> None:
        gone = time.monotonic() - began
        estimate = "" if mean_s is None else f", about {_minutes(max(0.0, mean_s * left - gone))} left"
        say(f"{what} · {_minutes(gone)}{estimate}")

    return tick


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _pause(seconds: float, what: str, say: Say) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        say(f"{what} in {_minutes(left)}")
        time.sleep(min(_TICK_S, left))


def _run(plan: Plan, name: str, tick: Callable[[], None]) -> Path:
    status, output = _finish(plan.command(name), tick)
    if status:
        raise ConfigError(f"calibrate: a run failed (exit status {status}):\n{_tail(output)}")
    return find_run(plan.results, name)


def _finish(command: Sequence[str], tick: Callable[[], None]) -> tuple[int, str]:
    """Return exit status and output of a command."""
    env = {name: value for name, value in os.environ.items() if name not in {"MODELLENS_GATE", "PYTEST_ADDOPTS"}}
    with tempfile.TemporaryFile() as file:
        # In a group of its own, so that a Ctrl-C reaches it once, by us, and it can end what it has started.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=env, process_group=0
        )
        try:
            while process.poll() is None:
                tick()
                try:
                    process.wait(_TICK_S)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            _end(process)
        file.seek(0)
        return process.returncode, file.read().decode("utf-8", "replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(output: str) -> str:
    from pytest_modellens.text import printable

    lines = [line for line in output.splitlines() if line.strip()]
    return "\n".join(f"  {printable(line)}" for line in lines[-_TAIL:])
