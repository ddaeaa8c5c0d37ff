"""Servers by command: ready with a token, gone with all they started, and clear about what went wrong."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from pytest_modellens.embedded import child
from pytest_modellens.errors import ConfigError, ServerError
from pytest_modellens.models import RunRequest
from pytest_modellens.served import log as log_module
from pytest_modellens.served import server as server_module
from pytest_modellens.served.readiness import FirstToken
from pytest_modellens.served.server import ModelServer
from tests.served.patience import up_after_an_answer, up_after_the_words
from tests.tiny_gguf import make_tiny_gguf

if TYPE_CHECKING:
    from collections.abc import Callable

SCRIPTED = Path(__file__).with_name("scripted.py")
SECRET = "correct-horse-battery"
PATIENCE_S = 60.0


def command(behaviour: str, *more: str) -> list[str]:
    return [sys.executable, str(SCRIPTED), behaviour, "{port}", *more]


def failure(behaviour: str, **options: Any) -> str:
    """Return what is said of a server that does not start."""
    with pytest.raises(ServerError) as caught, ModelServer(command(behaviour), **options):
        pass
    return str(caught.value)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def llama_command(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A command that serves a tiny model with llama.cpp, and its shell."""
    weights = make_tiny_gguf(tmp_path_factory.mktemp("weights") / "tiny.gguf")
    words = [sys.executable, child.__file__, "--weights", str(weights), "--name", "tiny", "--threads", "1", "--port"]
    # The child ends when its standard input does.
    return f"sh -c {shlex.quote('sleep 1000 | ' + shlex.join(words) + ' {port}')}"


@pytest.mark.parametrize("ready", [None, "llamacpp", "openai"])
def test_real_server_is_ready_with_a_token_and_gone_afterwards(llama_command: str, ready: str | None) -> None:
    with ModelServer(llama_command, FirstToken(ready, name="tiny-1")) as server:
        provider = server.provider
        assert provider.name == (ready or "llamacpp")
        assert server.cold_start_s is not None
        assert 0 < server.cold_start_s < 60
        assert (provider.cold_start_s, provider.server_pid) == (server.cold_start_s, server.pid)
        assert provider.run_prompt(RunRequest("hi", "tiny", max_tokens=3)).completion_tokens == 3
        assert server.pid is not None
        family = [server.pid, *(process.pid for process in psutil.Process(server.pid).children(recursive=True))]
        assert len(family) >= 3
        assert "listening on http" in server.last_log_lines(100)
    assert not [pid for pid in family if psutil.pid_exists(pid)]
    assert not server.is_running
    with pytest.raises(ServerError, match=r"^tiny-1: not running \(call start\(\)\)$"):
        _ = server.url
    with pytest.raises(ServerError, match=r"^tiny-1: has no provider"):
        _ = server.provider


def test_unknown_server_is_asked_as_openai() -> None:
    with ModelServer(command("ok")) as server:
        assert server.provider.name == "openai"
        assert server.provider.list_models()[0].id == "scripted"


def test_server_starts_again_after_it_was_stopped() -> None:
    server = ModelServer(command("ok"), FirstToken("vllm"))
    server.stop()
    first = server.start().url
    with pytest.raises(ServerError, match="already started"):
        server.start()
    with server:
        assert server.url == first
    with server:
        assert server.is_running


def test_server_that_still_loads_is_waited_for() -> None:
    with ModelServer(command("loading"), FirstToken("vllm")) as server:
        assert server.is_running


def test_health_that_lies_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    up_after_an_answer(monkeypatch)
    said = failure("empty", how=FirstToken("vllm"), start_timeout_s=600)
    assert "no token within 600 s; at last: it answered without a token (" in said


def test_server_that_never_gives_a_token_is_given_up() -> None:
    said = failure("silent", how=FirstToken("vllm"), start_timeout_s=2)
    assert said.startswith(f"server {Path(sys.executable).name}: no token within 2 s; at last: ")


def test_server_that_does_not_listen_is_given_up_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    up_after_the_words("still loading", monkeypatch)
    first, *words = failure("deaf", how=FirstToken("vllm"), start_timeout_s=600).splitlines()
    assert first.startswith(
        f"server {Path(sys.executable).name}: no token within 600 s; at last: nothing listens on the port ("
    )
    assert words == ["still loading"]


def test_server_that_ends_early_is_noticed_at_once() -> None:
    began = time.monotonic()
    said = failure("rude+exits", env={"SERVER_SECRET": SECRET}, start_timeout_s=600)
    assert time.monotonic() - began < 60
    first, *lines = said.splitlines()
    assert "ended with exit status 3 before the first token (" in first
    assert lines == ["red  api_key=*** ***", "100%"]


def test_server_that_dies_of_the_first_request_is_noticed_at_once() -> None:
    said = failure("dies", how=FirstToken("vllm"), start_timeout_s=600).splitlines()
    assert "ended with exit status 7 before the first token (" in said[0]
    assert said[1:] == ["out of memory"]


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (9, "SIGKILL"),
        pytest.param(40, "signal 40", marks=pytest.mark.skipif(sys.platform != "linux", reason="real-time signals")),
    ],
)
def test_server_that_is_killed_names_the_signal(number: int, name: str) -> None:
    with pytest.raises(ServerError, match=f"killed by {name} before the first token"):
        ModelServer(["sh", "-c", f"kill -{number} $$", "{port}"]).start()


def test_server_that_refuses_the_request_is_quoted_without_the_key() -> None:
    said = failure("refuses", how=FirstToken("vllm", api_key=SECRET), start_timeout_s=600)
    assert "HTTP 401: bad key" in said
    assert SECRET not in said


def test_secrets_of_command_and_environment_are_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_SECRET", SECRET)
    path = tmp_path / "run" / "server.log"
    words = command("rude", "--api-key", "flag-secret-1", "--token=flag-secret-2")
    with ModelServer(words, FirstToken("vllm"), log_path=path) as server:
        assert server.shown_command[-3:] == ["--api-key", "***", "***"]
        assert server.provider.server_command == server.shown_command
        shown = server.last_log_lines()
    kept = path.read_text(encoding="utf-8")
    for text in (shown, kept):
        assert SECRET not in text
        assert "\x1b" not in text
    assert kept.splitlines()[:2] == ["red  api_key=*** ***", "100%"]
    said = failure("exits", env={"SERVER_SECRET": SECRET}, log_path=path)
    assert f"; log: {path})" in said


def test_megabytes_of_log_stop_nobody_and_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    with ModelServer(command("noisy"), FirstToken("vllm"), log_path=path) as server:
        # The server answers while its log is still being read.
        until(lambda: server.last_log_lines(2).splitlines()[-1].startswith("line 59999: xxx"))
    kept = path.read_text(encoding="utf-8").splitlines()
    assert path.stat().st_size < log_module.KEPT_FIRST + log_module.KEPT_LAST + 100
    assert (kept[0][:7], kept[-1][:11]) == ("line 0:", "line 59999:")
    (gap,) = (line for line in kept if line.startswith("…"))
    assert gap.endswith(" bytes left out …")


def test_whole_family_is_ended_also_what_hides_and_will_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = tmp_path / "pids"
    monkeypatch.setattr(server_module, "_STOP_PATIENCE_S", 60.0)
    with ModelServer(command("family+stubborn"), FirstToken("vllm"), env={"PIDS": str(pids)}):
        family = [int(pid) for pid in pids.read_text(encoding="utf-8").split()]
        assert len(family) == 2
        assert all(psutil.pid_exists(pid) for pid in family)
    assert not [pid for pid in family if psutil.pid_exists(pid)]


SESSION = """
import os, sys
from pytest_modellens.served.readiness import FirstToken
from pytest_modellens.served.server import ModelServer
server = ModelServer([sys.executable, sys.argv[1], "family", "{port}"], FirstToken("vllm")).start()
print(server.pid, flush=True)
sys.stdin.read()
if sys.argv[2] == "exits":
    sys.exit()
"""


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "SIGINT", "exits"])
def test_server_does_not_outlive_the_run_however_that_ends(tmp_path: Path, how: str) -> None:
    pids = tmp_path / "pids"
    with subprocess.Popen(
        [sys.executable, "-c", SESSION, str(SCRIPTED), how],
        env={**os.environ, "PIDS": str(pids)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        family = [int(pid) for pid in pids.read_text(encoding="utf-8").split()]
        if how == "exits":
            assert process.stdin is not None
            process.stdin.close()
        else:
            process.send_signal(signal.Signals[how])
        process.wait(PATIENCE_S)
    until(lambda: not [pid for pid in family if psutil.pid_exists(pid)])


def test_ctrl_c_while_it_starts_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = tmp_path / "pids"

    def interrupt(_line: str) -> None:
        if pids.exists() and len(pids.read_text(encoding="utf-8").split()) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ModelServer(command("family+deaf"), env={"PIDS": str(pids)}, on_wait=interrupt).start()
    assert not [pid for pid in pids.read_text(encoding="utf-8").split() if psutil.pid_exists(int(pid))]


def test_port_that_another_program_takes_meanwhile_is_left_to_it(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    taken: list[socket.socket] = []

    def take() -> None:
        until(lambda: mark.exists() and bool(mark.read_text(encoding="utf-8")))
        taken.append(socket.create_server(("127.0.0.1", int(mark.read_text(encoding="utf-8")))))

    thief = threading.Thread(target=take)
    thief.start()
    try:
        with ModelServer(command("loses"), FirstToken("vllm"), env={"MARK": str(mark)}) as server:
            thief.join()
            assert server.port != taken[0].getsockname()[1]
    finally:
        mark.unlink(missing_ok=True)
        thief.join()
        for one in taken:
            one.close()


def test_port_that_is_always_taken_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(server_module, "_free_port", lambda: port)
        said = failure("deaf")
        assert f": port {port} was taken by another program (process {os.getpid()}) (" in said
        assert f"port {port} was taken by another program (" in failure("exits")


def test_ready_may_be_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ready(root: str) -> bool:
        asked.append(root)
        return len(asked) > 2

    with ModelServer(command("ok"), FirstToken(ready)) as server:
        assert asked == [server.url] * 3
        with pytest.raises(ServerError, match="has no provider"):
            _ = server.provider


def test_progress_is_told_the_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    up_after_the_words("still loading", monkeypatch)
    lines: list[str] = []
    with pytest.raises(ServerError):
        ModelServer(command("deaf"), start_timeout_s=600, on_wait=lines.append).start()
    assert lines[-1] == "still loading"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("llama-server --port 8080", "must say where its port goes with {port}, such as --port {port} (got llama-*)"),
        ("llama-server --api-key hunter2hunter2", "* (got llama-server --api-key '***')"),
        ("", "must not be empty (such as 'llama-server -m q4.gguf --port {port}')"),
        ([], "must not be empty (*"),
        ("llama-server 'x", "No closing quotation (got llama-server 'x)"),
        (["a\0", "{port}"], "must hold no null characters (got *"),
    ],
)
def test_command_that_cannot_be_one_is_refused(words: Any, message: str) -> None:
    from fnmatch import fnmatchcase

    with pytest.raises(ConfigError) as caught:
        ModelServer(words)
    assert fnmatchcase(str(caught.value), f"server command: {message}".replace("[", "[[]"))


def test_command_that_is_not_there_is_told_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        ModelServer("no-such-server --port {port}", FirstToken(name="q4"))
    assert str(caught.value) == "q4: no such command: 'no-such-server' (not on the PATH, or not executable)"
    script = tmp_path / "serve"
    script.write_text("#!/no/such/interpreter\n", encoding="utf-8")
    script.chmod(0o755)
    with pytest.raises(ServerError, match=r"^server serve: cannot be started \(\[Errno 2\] No such file or directory"):
        ModelServer(f"{script} {{port}}").start()


def test_provider_that_nobody_knows_is_told() -> None:
    with pytest.raises(ConfigError, match="unknown provider 'vlm'"):
        ModelServer(command("ok"), FirstToken("vlm")).start()


def test_server_that_is_no_model_server_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    up_after_an_answer(monkeypatch)
    said = failure_of([sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "{port}"])
    assert "no token within 600 s; at last: it answers like no server known here (name its provider)" in said


def failure_of(words: list[str], **options: Any) -> str:
    with pytest.raises(ServerError) as caught:
        ModelServer(words, **options).start()
    return str(caught.value)


def test_log_that_cannot_be_written_is_no_reason_to_fail(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    with ModelServer(command("ok"), FirstToken("vllm"), log_path=tmp_path / "file" / "server.log"):
        pass
    assert "cannot be written (" in caplog.text


def test_adapter_of_somebody_else_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_modellens.providers.vllm import VLLMProvider

    def fail(_self: VLLMProvider, _request: RunRequest) -> None:
        raise RuntimeError("lost")

    monkeypatch.setattr(VLLMProvider, "run_prompt", fail)
    up_after_an_answer(monkeypatch)
    said = failure("ok", how=FirstToken("vllm"), start_timeout_s=600)
    assert "at last: the adapter failed with RuntimeError: lost" in said
