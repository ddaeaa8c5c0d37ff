"""The measuring client against a server that does what a test tells it to: what goes wrong."""

from __future__ import annotations

import selectors
import socket
import threading

import pytest

from pytest_modellens.errors import (
    ConfigError,
    ConnectError,
    ProtocolError,
    TimedOutError,
    TruncatedError,
)
from pytest_modellens.measure.client import Client
from pytest_modellens.measure.poller import SelectorPoller
from pytest_modellens.measure.wire import WireRequest
from tests.fault_server import SSE, Close, FaultServer, Read, Reset, Step, Wait, chunk, response
from tests.measure.exchanges import body, get

pytestmark = pytest.mark.usefixtures("each_poller")


def test_total_timeout_says_what_had_arrived() -> None:
    with FaultServer([Read(), Wait()], [Read(), SSE, Wait()]) as server, Client() as client:
        nothing = client.exchange(get(server.url, total=0.1))
        something = client.exchange(get(server.url, total=2.0))
    assert isinstance(nothing.error, TimedOutError)
    assert str(nothing.error) == "not complete after 0.1 s (nothing had arrived)"
    assert str(something.error) == f"not complete after 2 s ({len(SSE)} bytes had arrived)"


def test_stall_timeout_counts_from_the_last_read() -> None:
    with FaultServer([Read(), Wait()], [Read(), SSE, Wait()]) as server, Client() as client:
        nothing = client.exchange(get(server.url, stall=0.08))
        something = client.exchange(get(server.url, stall=2.0))
    assert isinstance(nothing.error, TimedOutError)
    assert str(nothing.error) == "silent for 0.08 s after 0 bytes (stall time-out)"
    assert str(something.error) == f"silent for 2 s after {len(SSE)} bytes (stall time-out)"


def full_listener() -> tuple[socket.socket, list[socket.socket]]:
    """Return a listener whose queue is full, so that Linux leaves a further SYN unanswered."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    waiting = [socket.socket() for _ in range(4)]
    for sock in waiting:
        sock.setblocking(False)
        sock.connect_ex(listener.getsockname())
    return listener, waiting


@pytest.mark.parametrize(("connect", "total"), [(0.1, 10.0), (10.0, 0.1)])
def test_connection_that_is_never_accepted_times_out(connect: float, total: float) -> None:
    listener, waiting = full_listener()
    with listener, Client() as client:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        exchange = client.exchange(WireRequest(url, connect_timeout_s=connect, total_timeout_s=total))
    for sock in waiting:
        sock.close()
    assert isinstance(exchange.error, ConnectError)
    assert str(exchange.error) == "no connection within 0.1 s"
    assert exchange.sent_ns is None


def test_nothing_listening_is_said(closed_port: int) -> None:
    with Client() as client:
        exchange = client.exchange(get(f"http://127.0.0.1:{closed_port}"))
    assert isinstance(exchange.error, ConnectError)
    said = f"connection refused (nothing listens at 127.0.0.1:{closed_port}; is the server running?)"
    assert str(exchange.error) == said


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 64, "x..y"])
def test_unknown_host_is_said(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    look_up = socket.getaddrinfo

    def offline(name: str, *args: int, **kwargs: int) -> object:
        if name.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(name, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    with Client() as client:
        exchange = client.exchange(get(f"http://{host}:1"))
    assert isinstance(exchange.error, ConnectError)
    assert f"host {host!r} is unknown (" in str(exchange.error)


def test_next_address_is_tried_when_one_refuses(monkeypatch: pytest.MonkeyPatch, closed_port: int) -> None:
    with FaultServer([Read(), response(b"ok")]) as server, Client() as client:
        tcp = (socket.SOCK_STREAM, 6, "")
        found = [
            (9999, *tcp, ("127.0.0.1", server.port)),  # a family that no machine has
            (socket.AF_INET, *tcp, ("127.0.0.1", closed_port)),
            (socket.AF_INET, *tcp, ("127.0.0.1", server.port)),
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        exchange = client.exchange(get(server.url))
    assert (exchange.error, body(exchange)) == (None, b"ok")


def test_address_of_an_unknown_family_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(9999, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with Client() as client:
        exchange = client.exchange(get("http://127.0.0.1:1"))
    assert str(exchange.error) == "cannot connect to 127.0.0.1:1 (Address family not supported by protocol)"


def test_ipv6_loopback_is_reached() -> None:
    try:
        server = FaultServer([Read(), response(b"ok")], family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    with server, Client() as client:
        exchange = client.exchange(get(server.url))
    assert (exchange.error, body(exchange)) == (None, b"ok")
    assert f"\r\nHost: [::1]:{server.port}\r\n".encode() in server.received[0]


@pytest.mark.parametrize(
    ("steps", "received"),
    [
        pytest.param([SSE, chunk(b"data: 1\n\n"), b"7\r\nda"], b"data: 1\n\nda", id="chunked"),
        pytest.param([response(b"0123456789")[:-4]], b"012345", id="content-length"),
        pytest.param([b"HTTP/1.1 200 OK\r\nX"], b"", id="head"),
    ],
)
@pytest.mark.parametrize("end", [Close(), Reset()], ids=["closed", "reset"])
def test_cut_response_is_truncated(steps: list[Step], received: bytes, end: Step) -> None:
    with FaultServer([Read(), *steps, Wait(0.03), end]) as server, Client() as client:
        exchange = client.exchange(get(server.url))
    assert isinstance(exchange.error, TruncatedError)
    expected = "connection lost while receiving" if isinstance(end, Reset) else "before the response was complete"
    assert expected in str(exchange.error)
    assert body(exchange) == received


def test_body_that_ends_with_the_connection_ends_when_it_is_closed() -> None:
    with FaultServer([Read(), b"HTTP/1.1 200 OK\r\n\r\n", b"text", Wait(0.02)]) as server, Client() as client:
        exchange = client.exchange(get(server.url))
    assert (exchange.error, body(exchange)) == (None, b"text")
    assert exchange.closed_ns is not None
    assert exchange.closed_ns > exchange.reads[-1][0]


def test_response_that_is_not_http_is_refused() -> None:
    with FaultServer([b"SSH-2.0-OpenSSH_9.6\r\n", Wait()]) as server, Client() as client:
        exchange = client.exchange(get(server.url))
    assert isinstance(exchange.error, ProtocolError)
    assert str(exchange.error) == "not an HTTP/1.1 response (it begins with b'SSH-2.0-OpenSSH_9.6\\r\\n')"


def test_damaged_chunk_at_the_end_is_found() -> None:
    with FaultServer([Read(), SSE + b"zz\r\n\r\n", Wait()]) as server, Client() as client:
        exchange = client.exchange(get(server.url))
    assert str(exchange.error) == "malformed chunk size b'zz'"


def test_damage_in_the_middle_ends_the_request() -> None:
    with FaultServer([Read(), SSE, Wait(0.02), b"zz-and-more\r\n", Wait()]) as server, Client() as client:
        exchange = client.exchange(get(server.url))
    assert str(exchange.error) == "malformed chunk size b'zz-and-more'"


def test_name_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def never(*_: object, **__: object) -> list[object]:
        release.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", never)
    with Client() as client:
        exchange = client.exchange(WireRequest("http://slow.example/", connect_timeout_s=0.1, use_proxies=False))
    release.set()
    assert isinstance(exchange.error, ConnectError)
    assert str(exchange.error) == "host 'slow.example': no answer from the name server within 0.1 s"


def test_endless_response_is_cut_off() -> None:
    def pour(connection: socket.socket) -> None:
        while True:
            connection.sendall(chunk(b"x" * 65536))

    with FaultServer([Read(), SSE, pour]) as server, Client() as client:
        exchange = client.exchange(WireRequest(server.url, max_response_bytes=2**20))
    assert isinstance(exchange.error, ProtocolError)
    assert str(exchange.error) == "response larger than 1 MiB; the rest was not read"
    assert 2**20 < exchange.bytes_received <= 2**20 + 65536


def test_unusable_header_is_a_configuration_error() -> None:
    with Client() as client:
        with pytest.raises(ConfigError, match="header 'X-A': cannot be sent"):
            client.submit(WireRequest("http://127.0.0.1:1", headers={"X-A": "1\r\nX-B: 2"}))
        assert client.in_flight == 0


def test_too_many_connections_for_the_platform_are_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise ValueError("too many file descriptors in select()")

    monkeypatch.setattr("pytest_modellens.measure.client.new_poller", SelectorPoller)
    with FaultServer([Wait()]) as server, Client() as client:
        with monkeypatch.context() as patch:
            patch.setattr(selectors.DefaultSelector, "register", full)
            with pytest.raises(ConfigError, match="too many connections for this platform"):
                client.submit(get(server.url))
        client.cancel_all("done")
