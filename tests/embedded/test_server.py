"""The embedded server: started for real with a tiny model, and made to fail with a stand-in for xllamacpp."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import select
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from pytest_modellens.embedded import server as server_module
from pytest_modellens.embedded.server import EmbeddedServer, default_threads
from pytest_modellens.embedded.weights import Weights, find_weights
from pytest_modellens.errors import ConfigError, MissingExtraError, ServerError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SERVE = """
    import http.server, threading
    statuses = {statuses}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            status = statuses.pop(0)
            time.sleep(3600 if status is None else 0)
            body = b'{{"error":"from the stand-in"}}'
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    self.listening_address = f"http://127.0.0.1:{{listener.server_port}}"
"""


def _post(url: str, path: str, **body: Any) -> Any:
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(f"{url}/{path}", json=body, timeout=30)
        answer.raise_for_status()
        return answer.json()


def _rest(sock: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := sock.recv(2**20):
            data += piece
    return data


def _anew(
    monkeypatch: pytest.MonkeyPatch, step: str, ready: Callable[[EmbeddedServer], object] = lambda _: True
) -> None:
    """Have the time of a start be over half a second after `step` was reached and something is `ready`."""
    waits = {"_await_announcement", "_await_token"}
    assert step in waits

    def patched(name: str) -> Callable[..., Any]:
        real = getattr(EmbeddedServer, name)

        def wait(server: EmbeddedServer, *args: Any, deadline: float) -> Any:
            assert deadline <= time.perf_counter() + server.start_timeout_s
            while name == step and not ready(server):
                time.sleep(0.01)
            return real(server, *args, deadline=time.perf_counter() + (0.5 if name == step else 60))

        return wait

    for name in waits:
        monkeypatch.setattr(EmbeddedServer, name, patched(name))


def _get(url: str) -> Any:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, timeout=30).json()


def test_server_answers_chats_under_the_models_name(tiny_weights: Weights) -> None:
    with EmbeddedServer(tiny_weights) as server:
        answer = _post(server.url, "chat/completions", messages=[{"role": "user", "content": "hi"}], max_tokens=5)

    assert answer["model"] == server.model_name == "tiny"
    assert answer["usage"]["completion_tokens"] == 5


def test_server_leaves_nothing_in_the_prompt_cache_when_ready(tiny_weights: Weights) -> None:
    with EmbeddedServer(tiny_weights) as server:
        answer = _post(server.url, "chat/completions", messages=[{"role": "user", "content": "hi"}], max_tokens=1)

    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}


def test_server_is_gone_after_stop(tiny_weights: Weights) -> None:
    server = EmbeddedServer(tiny_weights)
    with server:
        pid = server.pid
        assert pid is not None
        assert server.is_running
        assert server.start_seconds is not None
        assert 0 < server.start_seconds < 60

    assert not psutil.pid_exists(pid)
    assert server.pid is None


def test_server_stops_twice_and_starts_again(tiny_weights: Weights) -> None:
    server = EmbeddedServer(tiny_weights)
    server.stop()
    first = server.start().url
    server.stop()
    server.stop()
    with server:
        assert server.url.startswith("http://127.0.0.1:")
    assert first.endswith("/v1")


def test_server_that_runs_does_not_start_twice(tiny_weights: Weights) -> None:
    with EmbeddedServer(tiny_weights) as server, pytest.raises(ServerError) as caught:
        server.start()

    assert str(caught.value) == f"embedded server: already started ({tiny_weights.path}; call stop() first)"


def test_server_has_no_url_before_it_is_started(tiny_weights: Weights) -> None:
    with pytest.raises(ServerError) as caught:
        _ = EmbeddedServer(tiny_weights).url

    assert str(caught.value) == f"embedded server: not running ({tiny_weights.path}; call start())"


def test_server_stops_with_answers_under_way_and_does_not_end_them(tiny_weights: Weights) -> None:
    body = json.dumps({"prompt": "on and", "max_tokens": 2000, "stream": True})
    asked = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    with EmbeddedServer(tiny_weights, context=2048) as server, contextlib.ExitStack() as stack:
        address = ("127.0.0.1", urlsplit(server.url).port or 0)
        # One after the other takes many seconds.
        answers = [stack.enter_context(socket.create_connection(address, timeout=60)) for _ in range(40)]
        for answer in answers:
            answer.sendall(asked)
        readable, _, _ = select.select(answers, [], [], 60)
        assert readable
        process = server._process
        server.stop()
        ended = sum(b"[DONE]" in _rest(answer) for answer in answers)

    assert process is not None
    assert process.returncode == 0, "it was not killed, but went by itself"
    assert ended < 40


def test_server_log_is_appended_to_the_file_given(tiny_weights: Weights, tmp_path: Path) -> None:
    log = tmp_path / "run" / "server.log"
    log.parent.mkdir()
    log.write_text("before\n")

    with EmbeddedServer(tiny_weights, log_path=log) as server:
        assert len(server.last_log_lines(3).splitlines()) == 3

    assert log.read_text().startswith("before\n")
    assert "model loaded" in log.read_text()
    assert server.last_log_lines() == ""


def test_server_without_a_log_file_leaves_none(
    tiny_weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    with EmbeddedServer(tiny_weights) as server:
        assert "listening on http" in server.last_log_lines()
        assert list(tmp_path.iterdir()) == []


def test_server_log_that_cannot_be_written_is_named(tiny_weights: Weights, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    log = tmp_path / "file" / "server.log"

    with pytest.raises(ServerError) as caught:
        EmbeddedServer(tiny_weights, log_path=log).start()

    assert str(caught.value) == f"embedded server: log {log} cannot be written (File exists)"


def test_server_gives_each_slot_the_whole_context(tiny_weights: Weights) -> None:
    with EmbeddedServer(tiny_weights, parallel=3, context=512, threads=1) as server:
        props = _get(server.url.replace("/v1", "/props"))

    assert props["total_slots"] == 3
    assert props["default_generation_settings"]["n_ctx"] == 512


def test_server_exposes_metrics(tiny_weights: Weights) -> None:
    with EmbeddedServer(tiny_weights) as server, requests.Session() as session:
        session.trust_env = False
        text = session.get(server.url.replace("/v1", "/metrics"), timeout=30).text

    assert "llamacpp:tokens_predicted_total" in text


@pytest.mark.parametrize("setting", ["parallel", "context", "threads"])
def test_server_refuses_a_number_below_one(tiny_weights: Weights, setting: str) -> None:
    settings: dict[str, Any] = {setting: 0}

    with pytest.raises(ConfigError) as caught:
        EmbeddedServer(tiny_weights, **settings)

    assert str(caught.value) == f"embedded server: {setting} must be at least 1 (got 0)"


def test_server_without_xllamacpp_names_the_extra(tiny_weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)

    with pytest.raises(MissingExtraError) as caught:
        EmbeddedServer(tiny_weights).start()

    assert str(caught.value) == (
        "embedded server: needs xllamacpp (not installed; pip install 'pytest-modellens[local]')"
    )


def test_server_with_damaged_weights_shows_the_end_of_its_log(tiny_weights: Weights, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(tiny_weights.path.read_bytes()[:100_000])
    log = tmp_path / "server.log"

    with pytest.raises(ServerError) as caught:
        EmbeddedServer(find_weights(str(damaged)), log_path=log).start()

    lines = str(caught.value).splitlines()
    assert lines[0] == (f"embedded server: ended with exit status 1 before the first token ({damaged}; log: {log})")
    assert f"failed to load model, '{damaged}'" in str(caught.value)
    # Written by two threads, in either order.
    assert "xllamacpp: Failed to init server, please check the input params." in lines


def test_server_killed_while_it_loads_names_the_signal(
    tiny_weights: Weights, fake_xllamacpp: Callable[[str], None]
) -> None:
    fake_xllamacpp("os.kill(os.getpid(), 9)")

    with pytest.raises(ServerError) as caught:
        EmbeddedServer(tiny_weights).start()

    assert str(caught.value) == f"embedded server: killed by SIGKILL before the first token ({tiny_weights.path})"


def test_server_that_loads_too_long_is_given_up(
    tiny_weights: Weights, fake_xllamacpp: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_xllamacpp("print('loading', flush=True); time.sleep(3600)")
    _anew(monkeypatch, "_await_announcement", EmbeddedServer.last_log_lines)
    server = EmbeddedServer(tiny_weights, start_timeout_s=1.5)

    with pytest.raises(ServerError) as caught:
        server.start()

    assert str(caught.value) == f"embedded server: not ready within 1.5 s ({tiny_weights.path})\nloading"
    assert server.pid is None


def test_server_that_never_answers_is_given_up(
    tiny_weights: Weights, fake_xllamacpp: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_xllamacpp(_SERVE.format(statuses="[None]"))
    _anew(monkeypatch, "_await_token")

    with pytest.raises(ServerError, match=r"^embedded server: no token within 1\.5 s \("):
        EmbeddedServer(tiny_weights, start_timeout_s=1.5).start()


def test_server_that_still_loads_is_waited_for(tiny_weights: Weights, fake_xllamacpp: Callable[[str], None]) -> None:
    fake_xllamacpp(_SERVE.format(statuses="[503, 503, 200]"))

    with EmbeddedServer(tiny_weights) as server:
        assert server.last_log_lines().count('"POST /v1/completions HTTP/1.1" 503') == 2


def test_server_that_stays_busy_is_given_up(
    tiny_weights: Weights, fake_xllamacpp: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_xllamacpp(_SERVE.format(statuses="[503] * 1000"))
    _anew(monkeypatch, "_await_token")

    with pytest.raises(ServerError, match=r"^embedded server: no token within 1 s \("):
        EmbeddedServer(tiny_weights, start_timeout_s=1).start()


def test_server_that_refuses_the_first_request_is_quoted(
    tiny_weights: Weights, fake_xllamacpp: Callable[[str], None]
) -> None:
    fake_xllamacpp(_SERVE.format(statuses="[500]"))

    with pytest.raises(ServerError) as caught:
        EmbeddedServer(tiny_weights).start()

    assert str(caught.value).splitlines()[0] == (
        f'embedded server: answered the first request with 500: {{"error":"from the stand-in"}} ({tiny_weights.path})'
    )


def test_server_that_does_not_listen_is_given_up(
    tiny_weights: Weights, fake_xllamacpp: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_STOP_PATIENCE_S", 0.1)
    with socket.socket() as bound:  # so that the port is nobody's, and nobody listens
        bound.bind(("127.0.0.1", 0))
        fake_xllamacpp(f"self.listening_address = 'http://127.0.0.1:{bound.getsockname()[1]}'")
        with pytest.raises(ServerError) as caught:
            EmbeddedServer(tiny_weights).start()

    assert str(caught.value) == (f"embedded server: closed its connection before the first token ({tiny_weights.path})")


def test_server_that_does_not_stop_is_killed(tiny_weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_STOP_PATIENCE_S", 0.1)
    with EmbeddedServer(tiny_weights) as server:
        pid = server.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)

    assert not psutil.pid_exists(pid)


def test_server_is_stopped_by_ctrl_c_while_it_loads(
    tiny_weights: Weights, fake_xllamacpp: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(server: EmbeddedServer, *_args: Any, **_kwargs: Any) -> str:
        pids.append(server.pid)
        raise KeyboardInterrupt

    pids: list[int | None] = []
    fake_xllamacpp("time.sleep(3600)")
    monkeypatch.setattr(EmbeddedServer, "_await_announcement", interrupt)

    with pytest.raises(KeyboardInterrupt):
        EmbeddedServer(tiny_weights).start()

    assert pids[0] is not None
    assert not psutil.pid_exists(pids[0])


@pytest.mark.skipif(sys.platform != "linux", reason="affinity and control groups are Linux's")
@pytest.mark.parametrize(
    ("quota", "threads"), [("max 100000", 7), ("400000 100000", 3), ("50000 100000", 1), ("nonsense", 7)]
)
def test_default_threads_leave_a_core_to_the_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, threads: int
) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(server_module, "_CGROUP_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))

    assert default_threads() == threads


def test_default_threads_count_all_cores_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "cpu_count", lambda: 10)

    assert default_threads() == 9


@pytest.mark.model
def test_server_of_the_default_weights_speaks_english() -> None:
    try:
        weights = find_weights()
    except WeightsError as exc:
        pytest.skip(str(exc))
    with EmbeddedServer(weights) as server:
        answer = _post(
            server.url,
            "chat/completions",
            messages=[{"role": "user", "content": "Name three colours."}],
            max_tokens=24,
            temperature=0,
        )

    assert re.search(r"\b(red|green|blue|colours?)\b", answer["choices"][0]["message"]["content"], re.IGNORECASE)
