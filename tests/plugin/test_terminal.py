"""What people see: progress on a terminal and only there, and nothing that steers it."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
import time
from itertools import count
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from pytest_modellens.plugin import progress
from pytest_modellens.plugin.progress import Progress
from tests.plugin.conftest import of
from tests.plugin.fake_server import Chat, FakeServer, fake_server, stream
from tests.plugin.test_interruption import PATIENCE_S
from tests.report.runs import HOSTILE, unseen

if TYPE_CHECKING:
    from pathlib import Path

    from tests.plugin.conftest import Project


class Shown:
    """What a pseudo-terminal has been sent until now, for those who wait for it in other threads."""

    def __init__(self) -> None:
        self._text = ""
        self._came = threading.Condition()

    def add(self, text: str) -> None:
        with self._came:
            self._text += text
            self._came.notify_all()

    def wait_for(self, pattern: str) -> None:
        with self._came:
            assert self._came.wait_for(lambda: re.search(pattern, self._text), PATIENCE_S), pattern


def on_a_terminal(folder: Path, *arguments: str, columns: int = 80, shown: Shown | None = None) -> str:
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
            if shown is not None:
                shown.add(data.decode(errors="replace"))
        process.wait(PATIENCE_S)
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
    shown = Shown()
    waited_for = {3: r" warm-up 3/4 · \d+ s", 6: r" 1/3 (· [\d.,]+ tok/s )?· \d+ s"}

    def until_it_is_shown(chat: Chat) -> None:
        if chat.number in waited_for:
            shown.wait_for(waited_for[chat.number])
        stream("slow", "ly")(chat)

    project.case("rounds: 3, warmup: 4")
    with fake_server(until_it_is_shown) as server:
        output = on_a_terminal(project.path, *of(server), *more, "-p", "no:benchmark", shown=shown)
    assert all(re.search(pattern, output) for pattern in waited_for.values())
    lines = screen(output)
    (line,) = (line for line in lines if line.startswith("suites/chat.yaml") and line.endswith("[100%]"))
    assert re.fullmatch(r"suites/chat\.yaml(::a\[llamacpp\] PASSED| \.) +\[100%\]", line)
    assert not any("warm-up" in line for line in lines)


def test_text_of_the_progress_is_made_when_it_is_shown_and_only_then(
    pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell of many requests would spend more on saying how far it is than on measuring."""
    shown, made, twice = io.StringIO(), count(1), threading.Event()

    def text() -> str:
        number = next(made)
        if number == 2:
            twice.set()
        return f"at {number}"

    monkeypatch.setattr(progress, "_FIRST_AFTER_S", 0.01)
    monkeypatch.setattr(progress, "_TICK_S", 0.01)
    monkeypatch.setattr(progress, "_terminal", lambda _: (None, 80))
    with Progress(pytestconfig, "a") as silent:
        silent.say(text)
    assert next(made) == 1
    made = count(1)
    monkeypatch.setattr(progress, "_terminal", lambda _: (shown, 80))
    with Progress(pytestconfig, "a") as talking:
        talking.say(text)
        assert twice.wait(30)
    assert re.search(r" at 1 · \d+ s", shown.getvalue())
    assert " at 2 · " in shown.getvalue()


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
def test_progress_of_a_load_fits_a_terminal_and_is_gone_at_the_end(project: Project) -> None:
    shown = Shown()
    rates = r" \d+\.\d/s · [\d,]+ tok/s · [1-6] failed · \d+ s left · \d+ do"

    def every_third_fails(chat: Chat) -> None:
        if chat.number == 10:
            shown.wait_for(rates)
        chat.json({"error": "no"}, status=503) if chat.number % 3 == 0 else stream("slow", "ly")(chat)

    project.suite("cases:\n- {name: a, prompt: hi, load: {concurrency: 2, requests: 18}}\n")
    with fake_server(every_third_fails) as server:
        output = on_a_terminal(project.path, *of(server), "-p", "no:benchmark", shown=shown)
    assert re.search(rates, output)
    (line,) = (line for line in screen(output) if line.startswith("suites/chat.yaml") and line.endswith("[100%]"))
    assert re.fullmatch(r"suites/chat\.yaml F +\[100%\]", line)


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


def cases(expect: str) -> str:
    """Return a suite with a case for every hostile text, which the prompt numbers."""
    lines = [f"- {{name: t{number}, prompt: '{number}', {expect}}}" for number in range(len(HOSTILE))]
    return "\n".join(["defaults: {rounds: 1, warmup: 0}", "cases:", *lines])


def text_for(chat: Chat) -> str:
    # As JSON has it: half of a surrogate pair cannot be sent.
    return HOSTILE[int(chat.body["messages"][-1]["content"])].encode("utf-8", "replace").decode()


@pytest.mark.parametrize("where", ["answer", "error", "broken stream", "status line"])
def test_text_of_a_server_never_steers_the_terminal(project: Project, server: FakeServer, where: str) -> None:
    def answer(chat: Chat) -> None:
        text = text_for(chat)
        if where == "answer":
            stream(text)(chat)
        elif where == "error":
            chat.json({"error": {"message": text, "type": text, "code": text}}, status=500)
        elif where == "broken stream":
            chat.begin_stream()
            chat.event({"error": {"message": text}} if len(text) % 2 else f"{{{text!r}")
            chat.end_stream()
        else:
            reason = text.encode("latin-1", "replace").replace(b"\r", b"").replace(b"\n", b"")
            chat.wfile.write(b"HTTP/1.1 500 %s\r\nContent-Length: 0\r\n\r\n" % reason[:200])

    server.answer = answer
    project.suite(cases("expect: {contains: London}"))
    result = project.run(server, "-v", "-rA", "--junitxml=out.xml", "-p", "no:benchmark")
    result.assert_outcomes(failed=len(HOSTILE))
    assert not unseen("\n".join([*result.outlines, *result.errlines]))
    assert max(map(len, result.outlines)) < 3000
    if where in {"answer", "error"}:
        assert "\\x1b[2J" in result.stdout.str()
    kept = project.result.records
    assert len(kept) == len(HOSTILE)
    if where == "answer":
        assert "\x1b[2J\x1b]0;owned\x07" in {record["response"] for record in kept}
    junit = (project.path / "out.xml").read_text(encoding="utf-8")
    ElementTree.fromstring(junit)
    assert not unseen(junit)


@pytest.mark.parametrize("number", range(0, len(HOSTILE), 3))
def test_names_from_a_server_never_steer_the_terminal(project: Project, server: FakeServer, number: int) -> None:
    text = " ".join(HOSTILE[number : number + 3]).encode("utf-8", "replace").decode()[:300]
    server.models = [text]
    server.more_pages = {"/props": {"build_info": text}}
    project.case("expect: {contains: Par}, rounds: 1")
    result = project.run(server, "-v", "-rA", "--junitxml=out.xml")
    result.assert_outcomes(passed=1)
    assert not unseen("\n".join([*result.outlines, *result.errlines]))
    junit = (project.path / "out.xml").read_text(encoding="utf-8")
    ElementTree.fromstring(junit)
    assert not unseen(junit)


def test_names_of_files_never_steer_the_terminal(project: Project, server: FakeServer) -> None:
    names = ["\x1b[2J\x07", "\u202egnp", "new\nline", "\x9b31m", "\u200bhidden\U000e0041", "日本語"]
    for name in names:
        project.suite("cases:\n- {name: a, prompt: hi, expect: {contains: London}}\n", f"suites/{name}.yaml")
    result = project.run(server, "-v", "-rA", f"--modellens-json={names[0]}.json", "--junitxml=out.xml")
    result.assert_outcomes(failed=len(names))
    ours = result.outlines[result.outlines.index(next(line for line in result.outlines if "= modellens =" in line)) :]
    last = next(at for at, line in enumerate(ours) if "short test summary" in line)
    assert not unseen("\n".join(ours[:last]))
    assert any("日本語" in line for line in ours)


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
