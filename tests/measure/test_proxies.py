"""Requests through the proxies of the environment, as requests takes them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from base64 import b64encode
from typing import TYPE_CHECKING

import pytest
import requests
import trustme

from pytest_modellens.errors import ConfigError, ConnectError, ProtocolError
from pytest_modellens.measure.client import Client
from pytest_modellens.measure.route import Route
from pytest_modellens.measure.wire import WireRequest
from tests.fault_server import Close, FaultServer, Read, Reset, Step, Wait, read_request, response

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BASIC = f"Basic {b64encode(b'user:p@ss word').decode()}"


def with_credentials(url: str) -> str:
    return url.replace("http://", "http://user:p%40ss%20word@")


def tunnel(port: int, seen: list[bytes]) -> Callable[[socket.socket], None]:
    """Return a step that does what CONNECT asks for, whatever host it names."""

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def connect(connection: socket.socket) -> None:
        seen.append(read_request(connection))
        with socket.create_connection(("127.0.0.1", port), timeout=60) as target:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(target, connection))
            back.start()
            pump(connection, target)
            back.join()

    return connect


def test_http_goes_through_the_proxy_in_absolute_form(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer([Read(), response(b"1"), Read(), response(b"2")]) as proxy, Client() as client:
        monkeypatch.setenv("HTTP_PROXY", with_credentials(proxy.url))
        monkeypatch.setenv("http_proxy", with_credentials(proxy.url))
        exchange = client.exchange(WireRequest("http://model.example:8000/v1/x?q=1", method="GET"))
    head = proxy.received[0].decode()
    assert exchange.error is None
    assert head.startswith("GET http://model.example:8000/v1/x?q=1 HTTP/1.1\r\nHost: model.example:8000\r\n")
    assert f"\r\nProxy-Authorization: {BASIC}\r\n" in head
    assert exchange.route.proxy is not None
    assert exchange.route.proxy.shown == proxy.url


def test_requests_asks_the_proxy_for_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer([Read(), response(b"1")], [Read(), response(b"2")]) as proxy, Client() as client:
        monkeypatch.setenv("http_proxy", with_credentials(proxy.url))
        client.exchange(WireRequest("http://model.example/v1/é x", method="GET"))
        requests.get("http://model.example/v1/é x", timeout=60)
    ours, theirs = (request.decode().split("\r\n") for request in proxy.received)
    assert ours[0] == theirs[0] == "GET http://model.example/v1/%C3%A9%20x HTTP/1.1"
    assert {line for line in ours if line.startswith(("Proxy-", "Host"))} == {
        line for line in theirs if line.startswith(("Proxy-", "Host"))
    }


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    return authority


def test_https_goes_through_a_tunnel(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("model.example").configure_cert(context)
    seen: list[bytes] = []
    with (
        FaultServer([Read(), response(b"1"), Read(), response(b"2")], tls=context) as server,
        FaultServer([tunnel(server.port, seen)]) as proxy,
        Client() as client,
    ):
        monkeypatch.setenv("https_proxy", with_credentials(proxy.url))
        first = client.exchange(WireRequest("https://model.example/v1", b"x"))
        second = client.exchange(WireRequest("https://model.example/v1", b"x"))
    assert (first.error, second.error, second.reused) == (None, None, True)
    assert [request.decode().splitlines() for request in seen] == [
        ["CONNECT model.example:443 HTTP/1.1", "Host: model.example:443", f"Proxy-Authorization: {BASIC}", ""]
    ]
    assert b"Proxy-Authorization" not in server.received[0]
    assert server.received[0].startswith(b"POST /v1 HTTP/1.1\r\nHost: model.example\r\n")


def test_proxy_without_credentials_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer([Read(), Close()]) as proxy, Client() as client:
        monkeypatch.setenv("https_proxy", proxy.url)
        exchange = client.exchange(WireRequest("https://model.example:8443/v1"))
    assert proxy.received == [b"CONNECT model.example:8443 HTTP/1.1\r\nHost: model.example:8443\r\n\r\n"]
    assert isinstance(exchange.error, ConnectError)
    assert str(exchange.error) == f"the proxy {proxy.url} closed the connection"


@pytest.mark.parametrize(
    ("steps", "kind", "message"),
    [
        ([Read(), response(b"", "407 Proxy Authentication Required")], ConnectError, "refused to connect (HTTP 407)"),
        ([Read(), b"HTTP/1.1 502 Bad", Wait(0.02), b" Gateway\r\n\r\n"], ConnectError, "refused to connect (HTTP 502)"),
        ([Read(), Reset()], ConnectError, "connection lost ("),
        ([Read(), b"SOCKS?", Wait()], ProtocolError, "not an HTTP/1.1 response"),
    ],
)
def test_tunnel_that_is_refused_is_said(
    steps: list[Step], kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultServer(steps) as proxy, Client() as client:
        monkeypatch.setenv("https_proxy", with_credentials(proxy.url))
        exchange = client.exchange(WireRequest("https://model.example/v1"))
    assert isinstance(exchange.error, kind)
    assert message in str(exchange.error)
    assert "p%40ss" not in str(exchange.error)


def test_proxy_that_does_not_listen_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://user:hunter22@127.0.0.1:1")
    with Client() as client:
        exchange = client.exchange(WireRequest("http://model.example/v1"))
    assert str(exchange.error) == (
        "connection refused (nothing listens at the proxy 127.0.0.1:1; is the server running?)"
    )


@pytest.mark.parametrize(
    ("no_proxy", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("127.0.0.0/8", "http://127.0.0.1:8000"),
        ("model.example:8000", "http://model.example:8000"),
        (".example", "http://model.example"),
        ("other, model.example", "https://model.example"),
        ("*", "http://model.example"),
    ],
)
def test_no_proxy_is_respected(no_proxy: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:1")
    assert Route.of(url).proxy is not None
    monkeypatch.setenv("no_proxy", no_proxy)
    assert Route.of(url).proxy is None


def test_proxies_can_be_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with FaultServer([Read(), response(b"ok")]) as server, Client() as client:
        assert client.exchange(WireRequest(server.url, use_proxies=False)).error is None


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "http_proxy",
            "socks5://u:hunter22@h:1",
            r"HTTP_PROXY: only http:// proxies .*\(got socks5://h; set NO_PROXY=",
        ),
        (
            "http_proxy",
            "https://u:hunter22@h:1",
            r"HTTP_PROXY: only http:// proxies .*\(got https://h; set NO_PROXY=mo",
        ),
        ("all_proxy", "socks5h://h:1", r"ALL_PROXY: only http:// proxies"),
        ("http_proxy", "http://", r"HTTP_PROXY: only http:// proxies"),
        ("http_proxy", "http://u:hunter22@h:99999", r"HTTP_PROXY: the proxy's address is no URL, or its port no port"),
        ("http_proxy", "http://u:hunter22@[h", r"HTTP_PROXY: the proxy's address is no URL"),
    ],
)
def test_proxy_that_cannot_be_used_is_refused(
    variable: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=message) as caught:
        Route.of("http://model.example/v1")
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "dial", "authorization"),
    [
        ("http://proxy.example:3128/", ("proxy.example", 3128), None),
        ("proxy.example", ("proxy.example", 80), None),
        ("http://user@proxy.example", ("proxy.example", 80), f"Basic {b64encode(b'user:').decode()}"),
    ],
)
def test_proxy_address_is_read_leniently(
    value: str, dial: tuple[str, int], authorization: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", value)
    route = Route.of("http://model.example/v1")
    assert route.dial == dial
    assert route.proxy is not None
    assert route.proxy.authorization == authorization


def test_proxy_credentials_are_not_in_its_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://user:hunter22@proxy.example:3128")
    route = Route.of("http://model.example/v1")
    assert "hunter22" not in repr(route)
    assert b64encode(b"user:hunter22").decode() not in repr(route)


@pytest.mark.parametrize(
    ("url", "authority", "origin", "dial"),
    [
        ("http://host", "host", "http://host", ("host", 80)),
        ("https://host/", "host", "https://host", ("host", 443)),
        ("http://host:443", "host:443", "http://host:443", ("host", 443)),
        ("https://host:80", "host:80", "https://host:80", ("host", 80)),
        ("http://[::1]:8000", "[::1]:8000", "http://[::1]:8000", ("::1", 8000)),
    ],
)
def test_route_leaves_out_the_default_port(url: str, authority: str, origin: str, dial: tuple[str, int]) -> None:
    route = Route.of(url)
    assert (route.authority, route.origin, route.dial) == (authority, origin, dial)


def test_proxy_without_credentials_is_sent_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer([Read(), response(b"1")]) as proxy, Client() as client:
        monkeypatch.setenv("http_proxy", proxy.url)
        client.exchange(WireRequest("http://model.example/v1"))
    assert b"Proxy-Authorization" not in proxy.received[0]


def test_proxies_are_looked_up_once_while_the_environment_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []

    def look(url: str) -> dict[str, str]:
        looks.append(url)
        return {"http": "http://proxy.example:3128"}

    monkeypatch.setattr("requests.utils.get_environ_proxies", look)
    # A name of this test's own, as routes are remembered by the process.
    routes = [WireRequest(f"http://me:secret@once.example:8000/v1/{path}").route() for path in "abc"]
    assert looks == ["http://once.example:8000"]
    assert {route.dial for route in routes} == {("proxy.example", 3128)}
    assert WireRequest("http://once.example:8000/v1", use_proxies=False).route().proxy is None
    assert len(looks) == 1


@pytest.mark.parametrize("no_proxy", ["no_proxy", "NO_PROXY"])
def test_changed_environment_changes_the_route(monkeypatch: pytest.MonkeyPatch, no_proxy: str) -> None:
    def dial() -> tuple[str, int]:
        return WireRequest("http://changing.example/v1").route().dial

    assert dial() == ("changing.example", 80)
    monkeypatch.setenv("http_proxy", "http://one.example:1")
    assert dial() == ("one.example", 1)
    monkeypatch.setenv("http_proxy", "http://two.example:2")
    assert dial() == ("two.example", 2)
    monkeypatch.setenv(no_proxy, "changing.example")
    assert dial() == ("changing.example", 80)
    monkeypatch.delenv(no_proxy)
    assert dial() == ("two.example", 2)
