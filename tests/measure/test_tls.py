"""HTTPS with a certificate authority made for the test."""

from __future__ import annotations

import socket
import ssl
import sys
import threading
from typing import TYPE_CHECKING

import pytest
import requests
import trustme

from pytest_modellens.errors import ConnectError, ProtocolError, TruncatedError
from pytest_modellens.measure.client import Client
from pytest_modellens.measure.wire import WireRequest
from tests.fault_server import SSE, Close, FaultServer, Read, Reset, Step, Wait, chunk, chunked, response
from tests.measure.exchanges import body

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("each_poller")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def serving(authority: trustme.CA) -> Callable[..., FaultServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return lambda *scripts: FaultServer(*scripts, tls=context)


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """REQUESTS_CA_BUNDLE names the authority."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    return path


def test_trusted_server_is_measured(serving: Callable[..., FaultServer], trusted: Path) -> None:
    script: list[Step] = [Read(), SSE, chunk(b"one "), Wait(0.01), chunked(b"two"), Read(), response(b"again")]
    with serving(script, [Read(), response(b"{}")]) as server, Client() as client:
        first, second = (client.exchange(WireRequest(server.url, b"x")) for _ in range(2))
        assert requests.get(server.url, timeout=60).json() == {}
    assert (first.error, body(first)) == (None, b"one two")
    assert (second.error, body(second), second.reused) == (None, b"again", True)
    assert first.connection is not None
    assert first.connection.tls_ns is not None
    assert first.connection.connect_ns > 0
    assert first.connection.tls_ns > 0
    assert first.opened_ns is not None
    assert first.connection.connect_ns + first.connection.tls_ns <= first.opened_ns - first.submitted_ns
    assert server.received[0].startswith(b"POST / HTTP/1.1\r\n")


@pytest.mark.skipif(sys.platform != "linux", reason="kernel time stamps are Linux's")
def test_kernel_stamps_are_there_under_tls(serving: Callable[..., FaultServer], trusted: Path) -> None:
    with serving([Read(), response(b"x")]) as server, Client() as client:
        exchange = client.exchange(WireRequest(server.url))
    assert exchange.arrivals().clock == "kernel"


def test_certificate_is_looked_up_in_a_folder_too(
    serving: Callable[..., FaultServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CURL_CA_BUNDLE", str(tmp_path))
    with serving([]) as server, Client() as client:
        exchange = client.exchange(WireRequest(server.url))
    assert "is not trusted" in str(exchange.error)


def test_server_that_is_not_trusted_is_refused(serving: Callable[..., FaultServer]) -> None:
    with serving([Read(), response(b"x")]) as server, Client() as client:
        exchange = client.exchange(WireRequest(server.url))
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(server.url, timeout=60)
    assert isinstance(exchange.error, ConnectError)
    assert str(exchange.error).startswith("TLS: the certificate of 127.0.0.1 is not trusted (")
    assert "set REQUESTS_CA_BUNDLE to the CA file that signed it" in str(exchange.error)
    assert server.received == []


def test_certificate_of_another_host_is_refused(
    authority: trustme.CA, trusted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("elsewhere.example").configure_cert(context)
    with FaultServer([Read()], tls=context) as server, Client() as client:
        exchange = client.exchange(WireRequest(server.url))
    assert isinstance(exchange.error, ConnectError)
    assert "certificate is not valid for '127.0.0.1'" in str(exchange.error)


@pytest.mark.parametrize("content", [None, "this is no certificate"])
def test_unusable_ca_bundle_is_said(
    content: str | None,
    serving: Callable[..., FaultServer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "bundle.pem"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    with serving([]) as server, Client() as client:
        exchange = client.exchange(WireRequest(server.url))
    assert isinstance(exchange.error, ConnectError)
    assert str(exchange.error).startswith(f"REQUESTS_CA_BUNDLE: cannot be read (got {str(path)!r}; ")


def test_plain_http_server_is_no_tls_server(trusted: Path) -> None:
    with FaultServer([b"HTTP/1.1 400 Bad Request\r\n\r\n", Wait(1)]) as server, Client() as client:
        exchange = client.exchange(WireRequest(server.url.replace("http:", "https:")))
    assert isinstance(exchange.error, ConnectError)
    assert str(exchange.error).startswith("TLS: no agreement with 127.0.0.1 (")


@pytest.mark.parametrize(
    ("end", "message"),
    [(Close(), "closed the connection during the TLS handshake"), (Reset(), "connection lost (")],
    ids=["closed", "reset"],
)
def test_connection_lost_in_the_handshake_is_said(end: Step, message: str) -> None:
    with FaultServer([lambda sock: sock.recv(10000), end]) as server, Client() as client:
        exchange = client.exchange(WireRequest(server.url.replace("http:", "https:")))
    assert isinstance(exchange.error, ConnectError)
    assert message in str(exchange.error)


@pytest.mark.parametrize("end", [Close(), Reset()], ids=["closed", "reset"])
def test_stream_cut_under_tls_is_truncated(end: Step, serving: Callable[..., FaultServer], trusted: Path) -> None:
    with serving([Read(), SSE, chunk(b"one "), Wait(0.03), end]) as server, Client() as client:
        exchange = client.exchange(WireRequest(server.url))
    assert isinstance(exchange.error, TruncatedError)
    assert body(exchange) == b"one "


def test_damaged_records_are_refused(serving: Callable[..., FaultServer], trusted: Path) -> None:
    def damage(connection: ssl.SSLSocket) -> None:
        with socket.socket(fileno=connection.detach()) as raw:
            raw.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)

    with serving([Read(), SSE, damage]) as server, Client() as client:
        exchange = client.exchange(WireRequest(server.url))
    assert isinstance(exchange.error, ProtocolError)
    assert str(exchange.error).startswith("TLS: damaged record (")


def test_idle_tls_connection_that_the_server_closed_is_replaced(
    serving: Callable[..., FaultServer], trusted: Path
) -> None:
    script: list[Step] = [Read(), response(b"1"), lambda sock: sock.unwrap()]
    with serving(script, [Read(), response(b"2")]) as server, Client() as client:
        first, second = client.exchange(WireRequest(server.url)), client.exchange(WireRequest(server.url))
    assert (body(first), body(second), second.error) == (b"1", b"2", None)


def test_idle_tls_connection_with_damaged_records_is_replaced(
    serving: Callable[..., FaultServer], trusted: Path
) -> None:
    sent = threading.Event()

    def damage(connection: ssl.SSLSocket) -> None:
        with socket.socket(fileno=connection.detach()) as raw:
            raw.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)
            sent.set()
            raw.recv(1)

    with serving([Read(), response(b"1"), damage], [Read(), response(b"2")]) as server, Client() as client:
        client.exchange(WireRequest(server.url))
        assert sent.wait(60)
        second = client.exchange(WireRequest(server.url))
    assert (body(second), second.error) == (b"2", None)


def test_large_body_is_sent_and_received_under_tls(serving: Callable[..., FaultServer], trusted: Path) -> None:
    content = bytes(range(256)) * 20_000
    with serving([Read(), response(content)]) as server, Client() as client:
        exchange = client.exchange(WireRequest(server.url, content, total_timeout_s=20))
    assert exchange.error is None
    assert body(exchange) == content
    assert server.received[0].endswith(content)
