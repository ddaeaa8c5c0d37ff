"""Providers measuring servers that fail in every way: what the reply, the record and the exception say."""

from __future__ import annotations

import gzip
import threading
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.errors import (
    ConfigError,
    ConnectError,
    ProtocolError,
    RequestError,
    StatusError,
    StreamedError,
    TimedOutError,
    TruncatedError,
    WrongModelError,
)
from pytest_modellens.models import RunRequest
from pytest_modellens.providers.llamacpp import LlamaCppProvider
from pytest_modellens.providers.measuring import measure
from pytest_modellens.providers.openai import OpenAIProvider
from pytest_modellens.providers.vllm import VLLMProvider
from tests.fault_server import SSE, Close, FaultServer, Read, Step, Wait, chunk, chunked, response, sse

if TYPE_CHECKING:
    import socket

from tests.providers.asking import ASK, FIRST, KEY, MODELS, ONE, STOP, TWO, USAGE, WHOLE, ask, record, stream


def test_good_stream_has_text_counts_and_times() -> None:
    reply = ask(*stream(FIRST, ONE, TWO, STOP, USAGE, "[DONE]"))
    assert reply.error is None
    got = record(reply)
    assert (got.ok, got.response, got.finish_reason, got.status) == (True, "one two", "stop", 200)
    assert (got.prompt_tokens, got.completion_tokens, got.total_tokens, got.tokens_source) == (3, 2, 5, "usage")
    assert got.received is None
    assert got.connect_ms is not None
    assert got.tls_ms is None
    assert got.timeline is not None
    assert got.timeline["event_kind"] == ["content", "content"]


def test_nothing_listening_is_a_connect_error() -> None:
    reply = measure(OpenAIProvider("http://127.0.0.1:1/v1"), ASK)
    assert isinstance(reply.error, ConnectError)
    assert str(reply.error) == (
        "http://127.0.0.1:1/v1/chat/completions: connection refused (nothing listens at 127.0.0.1:1; is the server "
        "running?)"
    )
    assert (reply.timeline, reply.status) == (None, None)
    got = record(reply)
    assert (got.ok, got.error_class, got.ttft_ms, got.total_time_ms, got.reads) == (False, "connect", None, None, 0)


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        pytest.param(
            response(b"<html>hi</html>", kind="text/html"),
            ProtocolError,
            "the response is not JSON ('<html>",
            id="html",
        ),
        pytest.param(
            response(b"<html>Not Found</html>", "404 Not Found", kind="text/html"),
            StatusError,
            "HTTP 404: <html>Not Found</html>",
            id="html-404",
        ),
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", ProtocolError, "not an HTTP/1.1 response", id="ssh"),
        pytest.param(b"\x00\x01\x02" * 30, ProtocolError, "not an HTTP/1.1 response", id="garbage"),
        pytest.param(response(b""), ProtocolError, "the response is empty", id="empty-200"),
        pytest.param(response(b" \n"), ProtocolError, "the response is empty", id="blank-200"),
        pytest.param(response(b"", "204 No Content"), ProtocolError, "the response is empty", id="204"),
        pytest.param(SSE + chunked(), ProtocolError, "the stream was empty", id="empty-stream"),
        pytest.param(SSE + chunked(b": ping\n\n"), ProtocolError, "the stream was empty", id="only-comments"),
        pytest.param(SSE + chunked(*sse("[DONE]")), ProtocolError, "the stream was empty", id="only-done"),
        pytest.param(response(b"{}"), ProtocolError, "the response is not a chat completion ('{}')", id="other-json"),
        pytest.param(response(b"[1]"), ProtocolError, "the response is not a chat completion: Expected", id="list"),
        pytest.param(response(b'{"choices": 3}'), ProtocolError, "is not a chat completion: Expected", id="choices"),
        pytest.param(response(b'{"choices": []}'), ProtocolError, "is not a chat completion", id="no-choice"),
        pytest.param(response(b"[" * 100_000), ProtocolError, "is not", id="deep"),
        pytest.param(
            response(b'{"choices": [{"message": {"content": "\xff"}}]}'), ProtocolError, "is not JSON", id="not-utf-8"
        ),
        pytest.param(
            response(b'{"error": {"message": "no memory"}}'),
            StreamedError,
            "the server answered 200 with an error: no memory",
            id="error-200",
        ),
        pytest.param(
            response(b'{"detail": [{"msg": "Field required"}]}', "422 Unprocessable Content"),
            StatusError,
            "HTTP 422: [{'msg': 'Field required'}]",
            id="422",
        ),
        pytest.param(
            response(b"Internal Server Error", "500 Internal Server Error", kind="text/plain"),
            StatusError,
            "HTTP 500: Internal Server Error",
            id="500",
        ),
        pytest.param(response(b"", "503 Service Unavailable"), StatusError, "HTTP 503: no explanation", id="503"),
        pytest.param(
            response(b"", "302 Found", headers="Location: http://elsewhere/\r\n"),
            ProtocolError,
            "HTTP 302: redirected to http://elsewhere/ (give the final address as base URL)",
            id="redirect",
        ),
        pytest.param(response(b"", "304 Not Modified"), ProtocolError, "HTTP 304: redirected to nowhere", id="304"),
        pytest.param(
            response(gzip.compress(WHOLE), headers="Content-Encoding: gzip\r\n"),
            ProtocolError,
            "the server compressed its answer although not asked to (gzip)",
            id="gzip",
        ),
        pytest.param(
            SSE + chunked(b"data: {nonsense\n\n"),
            ProtocolError,
            "event 1 of the stream is not JSON",
            id="event-no-json",
        ),
        pytest.param(
            SSE + chunked(*sse(ONE, '{"ping": 1}')),
            ProtocolError,
            "event 2 of the stream is not a chat completion: '{\"ping\": 1}'",
            id="event-other-json",
        ),
    ],
)
def test_unusable_answer_is_an_error_that_says_why(answer: bytes, kind: type[RequestError], message: str) -> None:
    reply = ask(answer, Wait(0.0))
    assert type(reply.error) is kind
    assert str(reply.error).startswith("http://127.0.0.1:")
    assert message in str(reply.error)
    got = record(reply)
    assert got.ok is False
    assert got.received is not None
    assert (got.total_time_ms, got.tpot_ms, got.tokens_per_second, got.e2e_tokens_per_second) == (None,) * 4


def test_silent_server_closing_is_truncated() -> None:
    reply = ask(Close())
    assert isinstance(reply.error, TruncatedError)
    assert record(reply).received == ""


def test_key_is_never_shown() -> None:
    said = f'{{"error": {{"message": "Incorrect API key provided: {KEY}. {"x" * 380}{KEY}"}}}}'.encode()
    reply = ask(response(said, "401 Unauthorized", headers=f"X-Echo: Bearer {KEY}\r\n"))
    assert isinstance(reply.error, StatusError)
    assert reply.error.status == 401
    assert "Incorrect API key provided: ***." in str(reply.error)
    got = record(reply)
    assert "X-Echo: ***" in (got.received or "")
    shown = f"{reply!r}{got!r}{reply.error!r}{OpenAIProvider('http://h/v1', api_key=KEY)!r}"
    for part in (KEY, KEY[:12]):
        assert part not in shown


def test_secret_headers_and_credentials_of_the_url_are_never_shown() -> None:
    request = RunRequest("hi", "tiny", headers={"X-Team-Token": "team-hunter22", "Authorization": "Token tok-hunter22"})
    quoted = b"team-hunter22 tok-hunter22 pass-hunter22 dXNlcjpwYXNzLWh1bnRlcjIy application/json"
    with FaultServer([Read(), response(quoted, "403 Forbidden")]) as server:
        provider = OpenAIProvider(server.url.replace("http://", "http://user:pass-hunter22@") + "/v1")
        reply = measure(provider, request)
        shown = f"{provider!r}{provider.shown_url}{request!r}"
        provider.close()
    assert str(reply.error).endswith("HTTP 403: *** *** *** *** application/json")
    got = record(reply, request)
    assert "hunter22" not in f"{shown}{reply!r}{got!r}{reply.error!r}"
    assert "content-type: application/json" in (got.received or "").lower()
    assert b"X-Team-Token: team-hunter22\r\n" in server.received[0]


def test_short_words_are_no_secrets() -> None:
    with FaultServer([Read(), response(b"none is EMPTY", "400 Bad Request")]) as server:
        provider = OpenAIProvider(f"{server.url}/v1", api_key="EMPTY")
        reply = measure(provider, RunRequest("hi", "tiny", headers={"X-A": ""}))
        provider.close()
    assert str(reply.error).endswith("HTTP 400: none is EMPTY")


def test_retry_after_is_kept() -> None:
    reply = ask(response(b'{"error": "slow down"}', "429 Too Many Requests", headers="Retry-After: 7\r\n"))
    assert isinstance(reply.error, StatusError)
    assert str(reply.error).endswith("HTTP 429; Retry-After: 7: slow down")
    got = record(reply)
    assert (got.error_class, got.retry_after, got.status) == ("http_429", "7", 429)


def test_error_status_says_more_than_a_cut_body() -> None:
    reply = ask(response(b"overloaded, try later", "503 Service Unavailable")[:-6])
    assert isinstance(reply.error, StatusError)
    assert str(reply.error).endswith("HTTP 503: overloaded, try")


def test_server_that_never_answers_times_out() -> None:
    total = ask(Wait(), timeout=0.1)
    stalled = ask(Wait(), stall=0.08)
    assert isinstance(total.error, TimedOutError)
    assert isinstance(stalled.error, TimedOutError)
    assert "not complete after 0.1 s (nothing had arrived)" in str(total.error)
    assert "silent for 0.08 s after 0 bytes (stall time-out)" in str(stalled.error)
    assert record(total).error_class == "timeout"


def test_request_brings_its_own_timeout() -> None:
    reply = ask(Wait(), request=RunRequest("hi", "tiny", timeout_s=0.1), timeout=60)
    assert "not complete after 0.1 s" in str(reply.error)


def test_stream_that_stalls_keeps_what_came_before() -> None:
    reply = ask(SSE + chunk(sse(ONE)[0]), Wait(), stall=2.0)
    assert isinstance(reply.error, TimedOutError)
    assert reply.content == "one "


def test_huge_response_is_cut_off_at_the_default_limit() -> None:
    def pour(connection: socket.socket) -> None:
        piece = chunk(b"x" * 2**20)
        while True:
            connection.sendall(piece)

    reply = ask(SSE, pour, timeout=60)
    assert isinstance(reply.error, ProtocolError)
    assert "response larger than 64 MiB; the rest was not read" in str(reply.error)
    assert len(record(reply).received or "") == 2000


def test_answer_that_was_not_streamed_is_seen_as_such() -> None:
    reply = ask(response(WHOLE))
    got = record(reply)
    assert (got.ok, got.streamed, got.ttft_ms, got.tokens_per_second_mode) == (True, False, None, "end_to_end")
    streamed = ask(*stream(ONE, TWO, STOP), request=RunRequest("hi", "tiny", stream=False))
    assert record(streamed).streamed is True


def test_content_type_is_read_in_any_case() -> None:
    head = SSE.replace(b"text/event-stream", b"Text/Event-Stream; charset=utf-8")
    assert ask(head, chunked(*sse(ONE, STOP))).content == "one "


def test_close_delimited_answer_ends_when_the_connection_does() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    reply = ask(head, b"".join(sse(ONE, TWO, STOP)), Wait(0.03), Close())
    assert reply.error is None
    assert reply.timeline is not None
    assert reply.timeline.ended_ns is not None
    assert reply.timeline.last_token_ns is not None
    assert reply.timeline.ended_ns - reply.timeline.last_token_ns > 10_000_000


def test_connection_is_kept_between_prompts() -> None:
    with FaultServer([Read(), response(WHOLE), Read(), response(WHOLE)]) as server:
        provider = VLLMProvider(f"{server.url}/v1")
        replies = [measure(provider, RunRequest("hi", "tiny")) for _ in range(2)]
        provider.close()
    assert [record(reply).connection_reused for reply in replies] == [False, True]
    assert record(replies[1]).connect_ms is None
    assert server.connections == 1


def test_prompts_of_many_threads_are_each_answered() -> None:
    def echo(connection: socket.socket) -> None:
        while data := connection.recv(65536):
            text = data.partition(b'"content":"')[2].partition(b'"')[0]
            connection.sendall(response(WHOLE.replace(b"hello", text)))

    answers: dict[int, str] = {}
    with FaultServer([echo]) as server:
        provider = OpenAIProvider(f"{server.url}/v1")

        def work(number: int) -> None:
            answers[number] = provider.run_prompt(RunRequest(f"number {number}", "tiny")).response

        threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        provider.close()
    assert answers == {number: f"number {number}" for number in range(16)}


def test_headers_with_line_breaks_are_refused() -> None:
    provider = OpenAIProvider("http://127.0.0.1:1/v1")
    with pytest.raises(ConfigError, match="header 'X-A': cannot be sent"):
        provider.run_prompt(RunRequest("hi", "tiny", headers={"X-A": "b\r\nX-C: d"}))
    provider.close()


@pytest.mark.parametrize(
    "request_", [RunRequest("\ud800", "tiny"), RunRequest("hi", "tiny", extra={"x": object()})], ids=["text", "field"]
)
def test_request_that_is_no_json_is_refused(request_: RunRequest) -> None:
    with pytest.raises(ConfigError, match="request body: cannot be written as JSON"):
        OpenAIProvider("http://127.0.0.1:1/v1").encode(request_)


@pytest.mark.parametrize("name", ["n", "best_of"])
def test_request_for_several_answers_is_refused(name: str) -> None:
    provider = OpenAIProvider("http://127.0.0.1:1/v1")
    with pytest.raises(ConfigError, match=f"request body: '{name}' asks for several answers.*got 2; send several req"):
        provider.encode(RunRequest("hi", "tiny", extra={name: 2}))
    assert b'"tiny"' in provider.encode(RunRequest("hi", "tiny", extra={name: 1})).body


def test_credentials_of_the_url_are_basic_authentication() -> None:
    with FaultServer([Read(), response(WHOLE)]) as server:
        provider = OpenAIProvider(server.url.replace("http://", "http://user:pass@") + "/v1")
        provider.run_prompt(RunRequest("hi", "tiny"))
        provider.close()
    assert b"\r\nAuthorization: Basic dXNlcjpwYXNz\r\n" in server.received[0]
    assert "pass" not in repr(provider)


def test_llamacpp_looks_once_what_else_its_model_is_called() -> None:
    answers: list[Step] = [Read(), response(WHOLE), Read(), response(WHOLE), Read(), response(WHOLE)]
    with FaultServer(answers, [Read(), response(MODELS), Read(), response(MODELS)]) as server:
        provider = LlamaCppProvider(f"{server.url}/v1")
        replies = [measure(provider, RunRequest("hi", asked)) for asked in ("small", "mini", "other")]
        provider.close()
    assert [reply.error is None for reply in replies] == [True, True, False]
    # A name that is not known yet is worth another look.
    assert sum(request.startswith(b"GET ") for request in server.received) == 2


@pytest.mark.parametrize(("asked", "accepted"), [("tiny", True), ("small", True), ("mini", True), ("other", False)])
def test_llamacpp_takes_its_model_by_any_of_its_names(asked: str, accepted: bool) -> None:
    with FaultServer([Read(), response(WHOLE)], [Read(), response(MODELS)]) as server:
        provider = LlamaCppProvider(f"{server.url}/v1")
        reply = measure(provider, RunRequest("hi", asked))
        provider.close()
    assert (reply.error is None) is accepted
    if not accepted:
        assert isinstance(reply.error, WrongModelError)
        assert str(reply.error).endswith(
            "asked for model 'other', answered by 'tiny' (the server serves only that one)"
        )
        assert record(reply).error_class == "wrong_model"
