"""What people see: progress on a terminal and only there, and nothing that steers it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.plugin.conftest import of
from tests.plugin.fake_server import Chat, FakeServer, fake_server, stream

if TYPE_CHECKING:
    from pathlib import Path

    from tests.plugin.conftest import Project

HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202egnp\x9b31m\r\n"


def on_a_terminal(folder: Path, *arguments: str, columns: int = 80) -> str:
    """Return what pytest writes to a pseudo-terminal."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", *arguments], cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        output = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # Linux's way to say that the other end is closed
                break
            if not data:
                break
            output += data
        process.wait(20)
    os.close(ours)
    return output.decode()


def screen(output: str) -> list[str]:
    """Return the lines as a terminal shows them in the end."""
    lines = []
    for raw in re.sub(r"\x1b\[[\d;]*m", "", output).split("\n"):
        shown: list[str] = []
        at = 0
        for token in re.findall(r"\x1b\[\d*[A-Za-z]|.", raw, re.DOTALL):
            if token == "\r":
                at = 0
            elif token.endswith("D") and token.startswith("\x1b"):
                at = max(0, at - int(token[2:-1]))
            elif token == "\x1b[K":
                del shown[at:]
            else:
                assert not token.startswith("\x1b"), token
                shown[at : at + 1] = [token]
                at += 1
        lines.append("".join(shown).rstrip())
    return lines


def dawdle(chat: Chat) -> None:
    time.sleep(0.3)
    stream("slow", "ly")(chat)


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
@pytest.mark.parametrize("more", [["-v"], []], ids=["verbose", "dots"])
def test_progress_is_shown_on_a_terminal_and_gone_at_the_end(project: Project, more: list[str]) -> None:
    project.case("rounds: 3, warmup: 4")
    with fake_server(dawdle) as server:
        output = on_a_terminal(project.path, *of(server), *more, "-p", "no:benchmark")
    assert re.search(r" warm-up [2-4]/4 · \d s", output)
    assert re.search(r" [0-2]/3 (· [\d.]+ tok/s )?· \d s", output)
    lines = screen(output)
    (line,) = (line for line in lines if line.startswith("suites/chat.yaml") and line.endswith("[100%]"))
    assert re.fullmatch(r"suites/chat\.yaml(::a\[llamacpp\] PASSED| \.) +\[100%\]", line)
    assert not any("warm-up" in line for line in lines)


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
def test_progress_is_not_shown_where_quiet_was_asked_for(project: Project) -> None:
    project.case("rounds: 2, warmup: 0")
    with fake_server(dawdle) as server:
        output = on_a_terminal(project.path, *of(server), "-q")
    assert "/2 ·" not in output
    assert "1 passed" in output


def test_progress_is_not_shown_in_a_log(project: Project) -> None:
    project.case("rounds: 2, warmup: 0")
    with fake_server(dawdle) as server:
        result = project.run(server)
    result.assert_outcomes(passed=1)
    assert "/2 ·" not in result.stdout.str()
    assert "\x1b" not in result.stdout.str()


@pytest.mark.parametrize("where", ["answer", "error", "model"])
def test_text_of_a_server_never_steers_the_terminal(project: Project, server: FakeServer, where: str) -> None:
    if where == "answer":
        server.answer = stream(HOSTILE)
    elif where == "error":
        server.answer = lambda chat: chat.json({"error": {"message": HOSTILE}}, status=500)
    else:
        server.models = [HOSTILE]
    project.case("expect: {contains: London}, rounds: 1")
    result = project.run(server, "-v", "--junitxml=out.xml")
    result.assert_outcomes(failed=1)
    output = result.stdout.str()
    for bad in ("\x1b", "\x07", "\u202e", "\x9b", "\r"):
        assert bad not in output
    assert "\\x1b" in output
    kept = project.result.records[0]
    assert HOSTILE in (kept["response"], kept["model"], kept["error"]) or "owned" in kept["error"]


def test_terminal_without_such_letters_gets_its_table(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    monkeypatch.setenv("PYTHONUTF8", "0")
    project.case()
    result = project.run_apart(server)
    result.assert_outcomes(passed=1)
    result.stderr.no_fnmatch_line("*Traceback*")


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_table_keeps_to_the_terminal(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    project.suite(
        "defaults: {rounds: 6, warmup: 0}\ncases:\n"
        "- {name: a-case-with-quite-a-long-name-indeed, prompt: hi, matrix: {temperature: [0.1], seed: [123456]}}\n"
    )
    result = project.run(server, "-p", "no:benchmark")
    start = result.outlines.index("suites/chat.yaml · fake")
    widest = max(map(len, result.outlines[start : result.outlines.index("", start)]))
    assert widest <= max(80, min(120, columns))
    whole = "a-case-with-quite-a-long-name-indeed[temperature=0.1,seed=123456]"
    assert any(line.startswith(whole) for line in result.outlines) == (columns == 200)
