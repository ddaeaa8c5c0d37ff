"""Fetching a server's Prometheus page: every way in which it can fail ends in a few words, soon."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.providers import control
from pytest_modellens.providers.llamacpp import LlamaCppProvider
from pytest_modellens.providers.openai import OpenAIProvider
from pytest_modellens.providers.vllm import VLLMProvider

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def page_server(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[tuple[str, list[Any]]]:
    """Lend the URL of a server and the requests that it gets."""
    seen: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers.get("Authorization")))
            answer(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", seen
        finally:
            server.shutdown()
            thread.join()


def reply(status: int, body: bytes = b"", **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def test_page_is_below_the_root_and_gets_the_key() -> None:
    with page_server(reply(200, b"a 1\n")) as (url, seen):
        assert VLLMProvider(f"{url}/v1", api_key="secret-key").metrics_page() == b"a 1\n"
        assert LlamaCppProvider(f"{url}/v1").metrics_page() == b"a 1\n"
    assert seen == [("/metrics", "Bearer secret-key"), ("/metrics", None)]


@pytest.mark.parametrize("status", [204, 401, 404, 500, 501, 503])
def test_page_with_another_status_is_none(status: int) -> None:
    with (
        page_server(reply(status, b"" if status == 204 else b"no\n")) as (url, _),
        pytest.raises(ValueError, match=rf"^HTTP {status}$"),
    ):
        VLLMProvider(f"{url}/v1").metrics_page()


def test_redirect_is_not_followed() -> None:
    with (
        page_server(reply(302, Location="http://127.0.0.1:1/metrics")) as (url, seen),
        pytest.raises(ValueError, match=r"^HTTP 302$"),
    ):
        VLLMProvider(f"{url}/v1", api_key="secret-key").metrics_page()
    assert len(seen) == 1


def test_page_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_MAX_TEXT_BYTES", 1000)
    with page_server(reply(200, b"x" * 5000)) as (url, _), pytest.raises(ValueError, match=r"^longer than 1000 bytes$"):
        VLLMProvider(f"{url}/v1").metrics_page()


def test_page_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "DEADLINE_S", 0.2)
    released = threading.Event()

    def dribble(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b"a")
        released.wait(10)

    with page_server(dribble) as (url, _), ExitStack() as stack:
        stack.callback(released.set)
        with pytest.raises(ValueError, match=r"^no complete answer within 0\.2 s$"):
            VLLMProvider(f"{url}/v1").metrics_page()


def test_page_cut_off_in_the_middle_is_refused() -> None:
    def cut(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b"a 1\n")

    with page_server(cut) as (url, _), pytest.raises(ValueError, match=r"^no (connection|usable answer)"):
        VLLMProvider(f"{url}/v1").metrics_page()


def test_server_that_is_gone_is_said_without_its_url() -> None:
    with pytest.raises(ValueError, match=r"^no connection$"):
        VLLMProvider("http://user:password@127.0.0.1:1/v1").metrics_page()


def test_unusable_certificates_are_said_without_their_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/bundle.pem")
    with pytest.raises(ValueError, match=r"^no usable answer \(OSError\)$"):
        VLLMProvider("https://127.0.0.1:1/v1").metrics_page()


def test_provider_without_metrics_asks_nobody() -> None:
    with (
        page_server(reply(200, b"a 1\n")) as (url, seen),
        pytest.raises(ValueError, match=r"provider openai: knows of no Prometheus page"),
    ):
        OpenAIProvider(f"{url}/v1").metrics_page()
    assert seen == []
