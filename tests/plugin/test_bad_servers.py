"""Whatever a server does, the test says it in one sentence, the record holds it, and the run goes on."""

from __future__ import annotations

import socket
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from tests.plugin.fake_server import Chat, FakeServer, fake_server, stream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.plugin.conftest import Project

WELL = stream("fine")


def status(code: int, message: str, **headers: str) -> Callable[[Chat], None]:
    shown = [(name.replace("_", "-"), text) for name, text in headers.items()]
    return lambda chat: chat.json({"error": {"message": message}}, status=code, headers=shown)


def cut_off(chat: Chat) -> None:
    chat.begin_stream()
    chat.event({"choices": [{"delta": {"content": "half"}}]})
    chat.close_connection = True


def error_in_stream(chat: Chat) -> None:
    chat.begin_stream()
    chat.event({"error": {"message": "out of memory"}})
    chat.end_stream()


def not_json(chat: Chat) -> None:
    chat.send_response(200)
    chat.send_header("Content-Type", "text/html")
    chat.send_header("Content-Length", "6")
    chat.end_headers()
    chat.wfile.write(b"<html>")


ANSWERS: dict[str, tuple[Callable[[Chat], None], str, int | None, str]] = {
    "401": (status(401, "bad key"), "http_4xx", 401, "HTTP 401: bad key (no API key was sent; set LLAMA_API_KEY, *)"),
    "404": (status(404, "model not found"), "http_4xx", 404, "HTTP 404: model not found"),
    "429": (status(429, "slow down", Retry_After="7"), "http_429", 429, "HTTP 429; Retry-After: 7: slow down"),
    "500": (status(500, "oops"), "http_5xx", 500, "HTTP 500: oops"),
    "cut-off": (cut_off, "truncated", 200, "*closed the connection before the response was complete*"),
    "in-stream": (error_in_stream, "server_error_in_stream", 200, "*out of memory*"),
    "html": (not_json, "protocol", 200, "*"),
    "wrong-model": (stream("hi", model="another"), "wrong_model", 200, "*'another'*"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_bad_answer_fails_one_test_with_one_reason(project: Project, name: str) -> None:
    answer, error_class, code, reason = ANSWERS[name]
    project.suite("cases:\n- {name: bad, prompt: bad, rounds: 1, warmup: 0}\n- {name: good, prompt: good, rounds: 1}\n")

    def by_prompt(chat: Chat) -> None:
        (answer if chat.body["messages"][0]["content"] == "bad" else WELL)(chat)

    with fake_server(by_prompt) as server:
        result = project.run(server)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            f"suites/chat.yaml:2: 1 of 1 requests failed (1 × {error_class})",
            f"  {server.url}/chat/completions: {reason}",
            "bad *✗",
            "good *✓",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    bad, *good = project.result.records
    assert (bad["ok"], bad["error_class"], bad["status"]) == (False, error_class, code)
    assert bad["total_time_ms"] is None
    assert bad["tokens_per_second"] is None
    assert bad["received"]
    assert [record["ok"] for record in good] == [True, True]
    assert project.result.meta["counts"] == {"requests": 2, "ok": 1, "errors": 1}


def test_cell_is_given_up_after_three_failures(project: Project) -> None:
    project.case("rounds: 50")
    with fake_server(status(503, "busy")) as server:
        result = project.run(server)
    assert len(server.chats) == 3
    result.stdout.fnmatch_lines(
        ["*3 of 3 requests failed (3 × http_5xx)", "*47 requests were not sent: 3 failures in a row"]
    )


def test_failed_request_among_good_ones_leaves_the_rest_measured(project: Project) -> None:
    project.case("rounds: 4")

    def second_fails(chat: Chat) -> None:
        (status(500, "oops") if chat.number == 2 else WELL)(chat)

    with fake_server(second_fails) as server:
        result = project.run(server)
    result.assert_outcomes(failed=1)
    assert [record["ok"] for record in project.result.records] == [True, False, True, True]
    result.stdout.fnmatch_lines(["a *llamacpp 3 * 1 ✗"])
    result.stdout.no_fnmatch_line("*benchmark: 1 tests*")


def test_server_that_dies_in_the_middle_fails_that_test_and_the_next(project: Project) -> None:
    project.suite("defaults: {rounds: 6, warmup: 0}\ncases:\n- {name: a, prompt: hi}\n- {name: b, prompt: hi}\n")

    def die_after_two(chat: Chat) -> None:
        if chat.number < 3:
            WELL(chat)
            return
        chat.server.socket.close()
        cut_off(chat)

    with fake_server(die_after_two) as server:
        result = project.run(server)
    result.assert_outcomes(failed=2)
    records = project.result.records
    assert [record["ok"] for record in records[:2]] == [True, True]
    assert {record["error_class"] for record in records[2:]} == {"truncated", "connect"}
    assert records[-1]["case"] == "b"
    result.stdout.fnmatch_lines(["*requests were not sent: every further request would meet the same"])


def test_nothing_listening_skips_and_says_how_to_start_one(project: Project, closed_port: int) -> None:
    project.suite()
    result = project.run(f"http://127.0.0.1:{closed_port}/v1", "-rs")
    result.assert_outcomes(skipped=3)
    hint = (
        "start it: llama-server -m MODEL.gguf, or give its address with --provider llamacpp=URL; without any server: *"
    )
    place = f"llamacpp: no server at http://127.0.0.1:{closed_port}/v1 ({hint})"
    result.stdout.fnmatch_lines([f"SKIPPED [[]2] suites/chat.yaml:6: {place}"])
    assert project.folders == []


@pytest.mark.parametrize("how", ["option", "CI"])
def test_nothing_listening_is_an_error_where_one_must_be(
    project: Project, closed_port: int, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    project.suite()
    if how == "CI":
        monkeypatch.setenv("CI", "true")
    result = project.run(f"http://127.0.0.1:{closed_port}/v1", *(["--modellens-strict"] if how == "option" else []))
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(["*llamacpp: no server at *"])
    result.stdout.no_fnmatch_line("*Traceback*")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert project.folders == []


def test_base_url_without_its_path_is_told_as_404(project: Project, server: FakeServer) -> None:
    project.case()
    server.answer = lambda chat: WELL(chat) if chat.path == "/v1/chat/completions" else status(404, "no page")(chat)
    result = project.run(server.url.removesuffix("/v1"), name="openai")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "suites/chat.yaml:3: 1 of 1 requests failed (1 × http_4xx)",
            "*HTTP 404: no page",
            "*the server lists no models, so none was known to ask for (give --modellens-model)",
        ]
    )
    assert project.result.records[0]["model"] == "default"


def test_port_that_speaks_no_http_is_told(project: Project) -> None:
    project.case()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, suppress(OSError):
                    connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")
                    connection.recv(65536)

        Thread(target=greet, daemon=True).start()
        result = project.run(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        listener.shutdown(socket.SHUT_RDWR)
    result.assert_outcomes(failed=1)
    record = project.result.records[0]
    assert record["error_class"] == "protocol"
    assert "HTTP" in record["error"]
    result.stdout.no_fnmatch_line("*Traceback*")


def test_real_llamacpp_that_takes_any_model_name_is_caught(project: Project, llama_url: str) -> None:
    project.case()
    result = project.run(llama_url, "--modellens-model", "nonsense")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*(1 × wrong_model)", "*asked for model 'nonsense', answered by 'tiny' *"])
    assert len(project.result.records) == 1


@pytest.mark.parametrize(
    ("model", "message"),
    [("nothing.gguf", "*nothing.gguf: no such file *"), ("notes.gguf", "*notes.gguf: not a GGUF file (*")],
)
def test_local_model_that_cannot_be_loaded_is_told(project: Project, model: str, message: str) -> None:
    project.suite()
    project.write("notes.gguf", "my notes")
    result = project.run(None, "--provider=local", f"--modellens-model={model}")
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines([message])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_local_server_that_does_not_start_leaves_its_log(project: Project) -> None:
    project.case()
    project.write("broken.gguf", "GGUF and no more")
    result = project.run(None, "--provider=local", "--modellens-model=broken.gguf")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*embedded server: ended with exit status * before the first token (*"])
    (folder,) = project.folders
    assert (folder / "server-local.log").stat().st_size > 0
    assert project.result.meta["exit_status"] == 1


def test_local_provider_takes_no_address(project: Project) -> None:
    project.case()
    result = project.run("http://127.0.0.1:1/v1", name="local")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*provider 'local': takes no base_url (it takes: *"])


def test_case_with_its_own_address_is_sent_there(project: Project, server: FakeServer) -> None:
    with fake_server(WELL) as other:
        other.models = ["theirs"]
        project.suite(
            "defaults: {rounds: 1, warmup: 0}\ncases:\n- {name: here, prompt: hi}\n"
            f"- {{name: there, prompt: hi, base_url: '{other.url}'}}\n"
        )
        project.run(server, "-W", "error").assert_outcomes(passed=2)
    assert len(server.chats) == len(other.chats) == 1
    assert [record["model"] for record in project.result.records] == ["fake", "theirs"]


def test_case_address_that_the_provider_cannot_take_is_told(project: Project, tiny_model: Path) -> None:
    project.case("base_url: 'http://127.0.0.1:1/v1'")
    result = project.run(None, "--provider=local", f"--modellens-model={tiny_model}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["suites/chat.yaml:3: provider 'local': takes no base_url (*"])
