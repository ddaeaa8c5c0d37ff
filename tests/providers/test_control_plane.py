"""Model lists, versions and health pages: as real servers answered, and through every fault."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from pytest_modellens.models import Model
from pytest_modellens.providers import control
from pytest_modellens.providers.llamacpp import LlamaCppProvider
from pytest_modellens.providers.openai import OpenAIProvider
from pytest_modellens.providers.vllm import VLLMProvider
from tests.fault_server import Close, FaultServer, Read, Reset, Step, Wait, chunk, response
from tests.transcripts.loader import Transcript

if TYPE_CHECKING:
    from pytest_modellens.providers.openai_compatible import OpenAICompatibleProvider

KINDS = [LlamaCppProvider, OpenAIProvider, VLLMProvider]


def serving(server: str, name: str) -> FaultServer:
    return FaultServer([Read(), *Transcript(server, name).reads()])


@pytest.mark.parametrize(
    ("folder", "provider", "models"),
    [
        (
            "llamacpp",
            LlamaCppProvider,
            [
                Model(
                    "smollm2-135m",
                    "smollm2-135m",
                    "llamacpp",
                    "135M",
                    "Q4_1",
                    96576768,
                    ("smollm2-135m",),
                    2048,
                )
            ],
        ),
        ("vllm", VLLMProvider, [Model("tiny", "models/tiny-llama-hf", "vllm", context_length=1024)]),
        ("transformers", OpenAIProvider, []),
        ("llama-cpp-python", OpenAIProvider, [Model("smollm2", "smollm2", "openai")]),
        (
            "llamacpp_router",
            LlamaCppProvider,
            [Model("tiny-q8", "tiny-q8", "llamacpp"), Model("tiny-xs-q8", "tiny-xs-q8", "llamacpp")],
        ),
    ],
)
def test_recorded_model_list_is_read(
    folder: str, provider: type[OpenAICompatibleProvider], models: list[Model]
) -> None:
    with serving(folder, "models") as server:
        assert provider(f"{server.url}/v1").list_models() == models
    assert server.received[0].startswith(b"GET /v1/models HTTP/1.1\r\n")


def test_recorded_empty_model_list_is_read() -> None:
    with serving("transformers", "models_with_cache_dir") as server:
        assert OpenAIProvider(f"{server.url}/v1").list_models() == []


def test_recorded_versions_are_read() -> None:
    with serving("vllm", "version") as server:
        assert VLLMProvider(f"{server.url}/v1").server_version() == "0.32.0"
    assert server.received[0].startswith(b"GET /version HTTP/1.1\r\n")
    with serving("llamacpp", "props") as server:
        assert LlamaCppProvider(f"{server.url}/v1").server_version() == "b0-unknown"
    with serving("llamacpp", "version") as server:
        assert VLLMProvider(f"{server.url}/v1").server_version() is None
    assert OpenAIProvider("http://127.0.0.1:1/v1").server_version() is None


@pytest.mark.parametrize(
    ("folder", "provider", "path"),
    [("llamacpp", LlamaCppProvider, b"/health"), ("vllm", VLLMProvider, b"/health")],
)
def test_recorded_health_page_is_healthy(folder: str, provider: type[OpenAICompatibleProvider], path: bytes) -> None:
    with serving(folder, "health") as server:
        assert provider(f"{server.url}/v1").health_check()
    assert server.received[0].startswith(b"GET " + path + b" HTTP/1.1\r\n")


def test_openai_is_healthy_when_its_model_list_can_be_had() -> None:
    with serving("llamacpp", "models") as server:
        assert OpenAIProvider(f"{server.url}/v1").health_check()


FAULTS: dict[str, list[Step]] = {
    "html": [Read(), response(b"<html>hello</html>", "404 Not Found", kind="text/html")],
    "closed": [Read(), Close()],
    "reset": [Read(), Reset()],
    "ssh": [b"SSH-2.0-OpenSSH_9.6\r\n", Close()],
    "garbage": [b"\x00\xff\x13" * 100, Close()],
    "loading": [Read(), response(b'{"error":{"message":"Loading model"}}', "503 Service Unavailable")],
    "unauthorized": [Read(), response(b"{}", "401 Unauthorized")],
    "redirect-loop": [Read(), response(b"", "302 Found", headers="Location: /v1/models\r\n")] * 40,
    "redirect-nowhere": [Read(), response(b"", "302 Found", headers="Location: http://[::1\r\n")],
    "cut-head": [Read(), b"HTTP/1.1"],
}
ODD_BODIES = {
    "html-200": b"<html>hello</html>",
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "text": b'"models"',
    "no-data": b"{}",
    "null-data": b'{"data": null}',
    "number-data": b'{"data": 3}',
    "entries-null": b'{"data": [null]}',
    "entries-text": b'{"data": ["a"]}',
    "entries-empty": b'{"data": [{}]}',
    "entries-list": b'{"data": [[]]}',
    "deep": b'{"data": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "latin-1": b'{"data": [{"id": "\xff"}]}',
    "endless-number": b"9" * 5000,
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", KINDS)
def test_fault_makes_a_server_unhealthy_without_models(kind: type[OpenAICompatibleProvider], fault: str) -> None:
    with FaultServer(FAULTS[fault]) as server:
        provider = kind(f"{server.url}/v1", api_key="sk-hunter22")
        assert provider.health_check() is False
        assert provider.list_models() == []
        assert provider.server_version() is None


@pytest.mark.parametrize("body", ODD_BODIES)
@pytest.mark.parametrize("kind", KINDS)
def test_odd_model_list_is_an_empty_one(kind: type[OpenAICompatibleProvider], body: str) -> None:
    with FaultServer([Read(), response(ODD_BODIES[body])]) as server:
        provider = kind(f"{server.url}/v1")
        assert provider.list_models() == []
        assert provider.server_version() is None
        assert provider.health_check() is True


def test_odd_meta_of_llamacpp_is_no_model() -> None:
    with FaultServer([Read(), response(b'{"data": [{"id": "a", "meta": "text"}]}')]) as server:
        assert LlamaCppProvider(f"{server.url}/v1").list_models() == []


def test_cut_model_list_is_an_empty_one() -> None:
    with FaultServer([Read(), response(b'{"data": [{"id": "a"}]}')[:-3]]) as server:
        assert OpenAIProvider(f"{server.url}/v1").list_models() == []


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/v1", f"http://{'a' * 64}/v1", "http://x..y/v1", "http://no-such-host.invalid/v1"]
)
def test_server_that_is_not_there_is_unhealthy(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    look_up = socket.getaddrinfo

    def offline(name: Any, *args: Any, **kwargs: Any) -> Any:
        if str(name).endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(name, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    provider = OpenAIProvider(url)
    assert provider.health_check() is False
    assert provider.list_models() == []
    assert provider.is_listening() is False


def test_listening_server_is_found_whatever_it_speaks() -> None:
    with FaultServer([Wait()]) as server:
        assert OpenAIProvider(f"{server.url}/v1").is_listening()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("REQUESTS_CA_BUNDLE", "/no/such/bundle.pem"),
        ("https_proxy", "socks5://127.0.0.1:1"),
        ("https_proxy", "http://127.0.0.1:1"),
    ],
)
def test_unusable_environment_makes_a_server_unhealthy(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    provider = OpenAIProvider("https://127.0.0.1:1/v1")
    assert provider.health_check() is False
    assert provider.list_models() == []


def test_unusable_key_makes_a_server_unhealthy() -> None:
    with FaultServer([Read(), response(b"{}")]) as server:
        provider = OpenAIProvider(f"{server.url}/v1", api_key="a\r\nX: b")
        assert provider.health_check() is False
        assert provider.list_models() == []


@pytest.mark.parametrize("error", [requests.ConnectionError, requests.Timeout, requests.RequestException, OSError])
def test_errors_of_requests_are_answers(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error("no")

    monkeypatch.setattr(requests.Session, "get", fail)
    provider = OpenAIProvider("http://127.0.0.1:1/v1")
    assert provider.health_check() is False
    assert provider.list_models() == []


def dribble(connection: socket.socket) -> None:
    for _ in range(6000):
        connection.sendall(b"X: y\r\n")
        time.sleep(0.02)


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"])
def test_slow_server_is_given_up_in_time(start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "DEADLINE_S", 0.15)
    assert control.PROBE_TIMEOUT_S < (5, 5)
    with FaultServer([Read(), start, dribble if start else Wait()]) as server:
        provider = OpenAIProvider(f"{server.url}/v1")
        began = time.monotonic()
        assert provider.list_models() == []
        assert time.monotonic() - began < 60  # and not 120
        is_well = start.endswith(b"\r\n\r\n")
        # A server that answers has the whole time, so that a busy machine does not make it a slow one.
        monkeypatch.setattr(control, "DEADLINE_S", 60.0 if is_well else 0.15)
        monkeypatch.setattr(control, "PROBE_TIMEOUT_S", (60.0, 60.0) if is_well else control.PROBE_TIMEOUT_S)
        assert provider.health_check() is is_well


def test_deadline_keeps_the_promise_of_five_seconds() -> None:
    assert control.DEADLINE_S < 5


def test_endless_model_list_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_MAX_BYTES", 2**20)

    def pour(connection: socket.socket) -> None:
        while True:
            connection.sendall(chunk(b" " * 65536))

    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with FaultServer([Read(), head, pour]) as server:
        assert OpenAIProvider(f"{server.url}/v1").list_models() == []


def test_key_is_sent_to_the_control_plane_and_credentials_without_one() -> None:
    answer: list[Step] = [Read(), response(b"{}")]
    with FaultServer(answer) as server:
        url = server.url.replace("http://", "http://user:pw@")
        OpenAIProvider(url, api_key="sk-hunter22").health_check()
        OpenAIProvider(url).health_check()
    assert b"\r\nAuthorization: Bearer sk-hunter22\r\n" in server.received[0]
    assert b"\r\nAuthorization: Basic dXNlcjpwdw==\r\n" in server.received[1]
