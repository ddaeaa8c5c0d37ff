"""What sockets rarely do, done by a stand-in: partial sends, false alarms, losses at awkward moments."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, cast

import pytest

from pytest_modellens.errors import CancelledError, ConnectError
from pytest_modellens.measure.client import Client
from pytest_modellens.measure.connection import Connection
from pytest_modellens.measure.poller import READ, WRITE
from pytest_modellens.measure.route import Proxy, Route
from pytest_modellens.measure.wire import WireRequest
from tests.fault_server import FaultServer, Read, Wait, response
from tests.measure.exchanges import body, wait_for_bytes

if TYPE_CHECKING:
    from pytest_modellens.measure.exchange import Exchange

pytestmark = pytest.mark.usefixtures("each_poller")
TUNNEL = Route(tls=True, host="::1", port=8443, proxy=Proxy("proxy", 3128, "http://proxy:3128"))


class Stub:
    """A socket that takes and gives what it is told to; None: not now."""

    def __init__(self, *, takes: list[int | None], gives: list[bytes | None]) -> None:
        self.takes = takes
        self.gives = gives
        self.sent = b""

    def send(self, data: bytes) -> int:
        count = self.takes.pop(0) if self.takes else len(data)
        if count is None:
            raise BlockingIOError
        self.sent += data[:count]
        return count

    def recv(self, _: int) -> bytes:
        data = self.gives.pop(0)
        if data is None:
            raise BlockingIOError
        return data


def over(stub: Stub) -> Connection:
    connection = Connection(TUNNEL, [])
    connection.sock = cast("socket.socket", stub)
    return connection


def test_tunnel_waits_for_a_slow_proxy() -> None:
    stub = Stub(takes=[3, None, 5], gives=[None, b"HTTP/1.1 200", None, b" OK\r\n\r\n"])
    assert list(over(stub)._tunnel()) == [WRITE, WRITE, WRITE, READ, READ, READ, READ]
    assert stub.sent == b"CONNECT [::1]:8443 HTTP/1.1\r\nHost: [::1]:8443\r\n\r\n"


def test_read_that_was_a_false_alarm_is_nothing() -> None:
    connection = over(Stub(takes=[], gives=[None, b"x"]))
    assert connection.receive() is None
    read = connection.receive()
    assert read is not None
    assert read[1:] == (None, b"x")


def test_connection_without_an_address_cannot_be_opened() -> None:
    with pytest.raises(ConnectError, match=r"cannot connect to the proxy proxy:3128 \("):
        next(Connection(TUNNEL, []).opening)


def test_address_that_fails_at_once_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect_ex", lambda *_: errno.ENETUNREACH)
    with Client() as client:
        exchange = client.exchange(WireRequest("http://127.0.0.1:1"))
    assert str(exchange.error) == "cannot connect to 127.0.0.1:1 (Network is unreachable)"


def test_address_families_without_a_code_are_still_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> socket.socket:
        raise OSError("no sockets today")

    with Client() as client, monkeypatch.context() as patch:
        patch.setattr("pytest_modellens.measure.connection.socket.socket", refuse)
        exchange = client.exchange(WireRequest("http://127.0.0.1:1", use_proxies=False))
    assert f"cannot connect to 127.0.0.1:1 ({os.strerror(errno.EADDRNOTAVAIL)})" in str(exchange.error)


@pytest.mark.parametrize("answer", [b"", ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")])
def test_loss_while_sending_stands_when_nothing_can_be_read(
    answer: bytes | OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: object) -> bytes:
        raise ConnectError("connection lost while sending (Broken pipe)")

    def receive(*_: object) -> tuple[int, None, bytes]:
        if isinstance(answer, OSError):
            raise answer
        return 0, None, answer

    monkeypatch.setattr(Connection, "send", lose)
    monkeypatch.setattr(Connection, "receive", receive)
    with FaultServer([b"x", Wait()]) as server, Client() as client:
        exchange = client.exchange(WireRequest(server.url))
    assert str(exchange.error) == "connection lost while sending (Broken pipe)"


def test_closed_connection_is_not_fresh() -> None:
    connection = Connection(Route.of("http://127.0.0.1:1", use_proxies=False), [])
    assert connection.is_fresh() is False
    connection.close()


def test_connection_that_was_reset_while_idle_is_not_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    def reset(*_: object) -> None:
        raise ConnectionResetError

    connection = over(Stub(takes=[], gives=[None]))
    assert connection.is_fresh()
    monkeypatch.setattr(Connection, "receive", reset)
    assert not connection.is_fresh()


def test_exchange_that_is_over_cannot_fail_again() -> None:
    with FaultServer([Read(), response(b"ok")]) as server, Client() as client:
        exchange = client.exchange(WireRequest(server.url))
        client._fail(exchange, CancelledError("too late"))
        assert client.poll() == []
    assert exchange.error is None


def test_listener_may_cancel_the_others_while_they_are_read() -> None:
    with FaultServer([Read(), response(b"ok"), Wait()]) as server, Client() as client:
        cancelled: list[Exchange] = []

        def stop(_: Exchange) -> None:
            if client.in_flight == 2:
                cancelled.extend(client.cancel_all("enough"))

        requests = [client.submit(WireRequest(server.url), on_read=stop) for _ in range(2)]
        while not all(exchange.receiving for exchange in requests):
            client.poll(0)
        wait_for_both(requests)
        client.poll(0)
        client.poll(0)
    assert len(cancelled) == 2
    assert all(isinstance(exchange.error, CancelledError) for exchange in requests)


def wait_for_both(exchanges: list[Exchange]) -> None:
    """Return when answers to both lie in the kernel, so that one look at the sockets brings them together."""
    for exchange in exchanges:
        assert exchange.connection is not None
        assert exchange.connection.sock is not None
        wait_for_bytes(exchange.connection.sock)


def test_socket_opened_by_a_listener_is_not_taken_for_the_one_whose_number_it_has() -> None:
    with FaultServer([Read(), response(b"ok"), Wait()]) as server, Client() as client:
        later: list[Exchange] = []

        def start_over(_: Exchange) -> None:
            if client.in_flight == 2:
                client.cancel_all("enough")
                later.extend(client.submit(WireRequest(server.url)) for _ in range(2))

        requests = [client.submit(WireRequest(server.url), on_read=start_over) for _ in range(2)]
        while not all(exchange.receiving for exchange in requests):
            client.poll(0)
        wait_for_both(requests)
        while not (later and all(exchange.done for exchange in later)):
            client.poll(0.01)
    assert all(isinstance(exchange.error, CancelledError) for exchange in requests)
    assert [(exchange.error, body(exchange)) for exchange in later] == [(None, b"ok")] * 2
