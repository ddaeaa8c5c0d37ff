"""The measuring client against a server that does what a test tells it to: what works."""

from __future__ import annotations

import signal
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.errors import (
    CancelledError,
    ConnectError,
    TruncatedError,
)
from pytest_modellens.measure.client import Client
from pytest_modellens.measure.wire import WireRequest
from tests.fault_server import SSE, Close, FaultServer, Read, Reset, Step, Wait, chunk, chunked, response
from tests.measure.exchanges import body, get

if TYPE_CHECKING:
    from pytest_modellens.measure.exchange import Exchange

pytestmark = pytest.mark.usefixtures("each_poller")


def test_exchange_brings_status_headers_and_body() -> None:
    with FaultServer([Read(), response(b"hello", headers="X-A: 1\r\n")]) as server, Client() as client:
        exchange = client.exchange(WireRequest(f"{server.url}/path?q=1", b"content", {"X-B": "2"}))
    assert exchange.error is None
    assert (exchange.parser.status, exchange.parser.headers["x-a"], body(exchange)) == (200, "1", b"hello")
    head, _, sent = server.received[0].partition(b"\r\n\r\n")
    assert sent == b"content"
    assert head.split(b"\r\n") == [
        b"POST /path?q=1 HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}".encode(),
        b"User-Agent: pytest-modellens",
        b"Accept-Encoding: identity",
        b"X-B: 2",
        b"Content-Length: 7",
    ]


def test_instants_are_in_order() -> None:
    steps: list[Step] = [Read(), SSE, chunk(b"data: 1\n\n"), Wait(0.01), chunked(b"data: 2\n\n")]
    with FaultServer(steps) as server, Client() as client:
        exchange = client.exchange(get(server.url))
    stamps = exchange.arrivals().stamps
    assert exchange.opened_ns is not None
    assert exchange.sent_ns is not None
    assert exchange.finished_ns is not None
    instants = [exchange.submitted_ns, exchange.opened_ns, exchange.sent_ns, *stamps, exchange.finished_ns]
    assert instants == sorted(instants)
    assert exchange.scheduled_ns == exchange.sent_ns
    assert all(stamp <= read for stamp, (read, _, _) in zip(stamps, exchange.reads, strict=True))


def test_connection_is_kept_and_used_again() -> None:
    script: list[Step] = [Read(), response(b"1"), Read(), SSE, chunked(b"2"), Read(), response(b"3")]
    with FaultServer(script) as server, Client() as client:
        exchanges = [client.exchange(get(server.url)) for _ in range(3)]
    assert [body(exchange) for exchange in exchanges] == [b"1", b"2", b"3"]
    assert [exchange.reused for exchange in exchanges] == [False, True, True]
    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(response(b"1", headers="Connection: close\r\n"), id="connection-close"),
        pytest.param(response(b"1") + b"surplus", id="surplus"),
        pytest.param(response(b"1", headers="Keep-Alive: timeout=0\r\n"), id="idle-limit-of-nothing"),
        pytest.param(response(b"1").replace(b"HTTP/1.1", b"HTTP/1.0"), id="http-1.0"),
    ],
)
def test_connection_is_not_used_again(answer: bytes) -> None:
    with FaultServer([Read(), answer, Wait()], [Read(), response(b"2")]) as server, Client() as client:
        first, second = client.exchange(get(server.url)), client.exchange(get(server.url))
    assert (body(first), body(second), second.reused) == (b"1", b"2", False)
    assert server.connections == 2


def test_idle_connection_that_the_server_closed_is_replaced() -> None:
    closed = threading.Event()

    def close(connection: socket.socket) -> None:
        connection.shutdown(socket.SHUT_RDWR)
        closed.set()

    with FaultServer([Read(), response(b"1"), close], [Read(), response(b"2")]) as server, Client() as client:
        client.exchange(get(server.url))
        assert closed.wait(60)
        second = client.exchange(get(server.url))
    assert (body(second), second.error, second.reused) == (b"2", None, False)


def test_idle_connection_with_unasked_bytes_is_replaced() -> None:
    sent = threading.Event()

    def talk(connection: socket.socket) -> None:
        connection.sendall(response(b"", "408 Request Timeout"))
        sent.set()

    with FaultServer([Read(), response(b"1"), talk, Wait()], [Read(), response(b"2")]) as server, Client() as client:
        client.exchange(get(server.url))
        assert sent.wait(60)
        assert body(client.exchange(get(server.url))) == b"2"


@pytest.mark.parametrize("end", [Close(), Reset()], ids=["closed", "reset"])
def test_connection_that_ends_under_a_request_is_replaced(end: Step) -> None:
    with FaultServer([Read(), response(b"1"), Read(), end], [Read(), response(b"2")]) as server, Client() as client:
        client.exchange(get(server.url))
        second = client.exchange(get(server.url))
    assert (body(second), second.error, second.reused) == (b"2", None, False)
    assert second.scheduled_ns == second.sent_ns
    assert len(server.received) == 3


def test_connection_that_breaks_before_a_request_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = threading.Event()
    script: list[Step] = [Read(), response(b"1"), lambda _: gone.set(), Reset()]
    with FaultServer(script, [Read(), response(b"2")]) as server, Client() as client:
        client.exchange(get(server.url))
        assert gone.wait(60)
        monkeypatch.setattr("pytest_modellens.measure.connection.Connection.is_fresh", lambda _: True)
        second = client.exchange(WireRequest(server.url, b"x" * 1_000_000, total_timeout_s=10))
    assert (body(second), second.error) == (b"2", None)


def test_new_connection_that_is_closed_is_not_tried_again() -> None:
    with FaultServer([Read(), Close()]) as server, Client() as client:
        exchange = client.exchange(get(server.url))
    assert isinstance(exchange.error, TruncatedError)
    assert str(exchange.error) == "the server closed the connection without an answer"
    assert server.connections == 1


def test_large_body_is_sent_to_a_slow_reader() -> None:
    content = bytes(range(256)) * 40_000
    pause: list[Step] = [Wait(0.05), Read(), response(b"ok")]
    with FaultServer(pause) as server, Client() as client:
        exchange = client.exchange(WireRequest(server.url, content, total_timeout_s=20))
    assert exchange.error is None
    assert server.received[0].endswith(content)


def test_refusal_before_the_body_was_sent_is_read() -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(response(b"too large", "413 Content Too Large", headers="Connection: close\r\n"))
        connection.shutdown(socket.SHUT_WR)

    with FaultServer([refuse, Wait(0.05), Reset()]) as server, Client() as client:
        exchange = client.exchange(WireRequest(server.url, b"x" * 20_000_000, total_timeout_s=10))
    assert exchange.parser.status == 413
    assert body(exchange) == b"too large"


@pytest.mark.parametrize("end", [Close(), Reset()], ids=["closed", "reset"])
def test_connection_lost_while_sending_is_said(end: Step) -> None:
    with FaultServer([lambda connection: connection.recv(1000), end]) as server, Client() as client:
        exchange = client.exchange(WireRequest(server.url, b"x" * 20_000_000, total_timeout_s=10))
    assert isinstance(exchange.error, ConnectError)
    assert "connection lost while sending" in str(exchange.error)


def test_many_at_once_bring_each_its_own() -> None:
    def answer(connection: socket.socket) -> None:
        number = connection.recv(65536).split(b"\r\n\r\n")[1]
        connection.sendall(SSE + chunk(b"<" + number))
        connection.sendall(chunked(number + b">"))

    with FaultServer([answer, Close()]) as server, Client() as client:
        for number in range(64):
            client.submit(WireRequest(server.url, str(number).encode(), total_timeout_s=20), tag=number)
        assert client.in_flight == 64
        ended: list[Exchange] = []
        while len(ended) < 64:
            ended += client.poll()
    assert {exchange.tag: body(exchange) for exchange in ended} == {n: b"<%d%d>" % (n, n) for n in range(64)}
    assert [exchange.error for exchange in ended] == [None] * 64


def test_poll_returns_after_its_time() -> None:
    with FaultServer([Wait()]) as server, Client() as client:
        assert client.poll() == []
        client.submit(get(server.url))
        assert client.poll(0.02) == []
        assert client.poll(0) == []
        assert client.in_flight == 1


def test_cancel_all_keeps_what_had_arrived() -> None:
    arrived: list[Exchange] = []
    with FaultServer([Read(), SSE + chunk(b"data: 1\n\n"), Wait()]) as server, Client() as client:
        client.submit(get(server.url), tag=1, on_read=arrived.append)
        while not arrived:
            client.poll(0.01)
        cancelled = client.cancel_all("enough")
        assert client.cancel_all("again") == []
    assert [exchange.tag for exchange in cancelled] == [1]
    assert isinstance(cancelled[0].error, CancelledError)
    assert str(cancelled[0].error) == "enough"
    assert body(cancelled[0]) == b"data: 1\n\n"


def test_closing_twice_is_harmless() -> None:
    client = Client()
    with FaultServer([Wait()]) as server:
        exchange = client.submit(get(server.url))
        client.close()
        client.close()
    assert isinstance(exchange.error, CancelledError)


def test_interrupt_while_waiting_closes_the_exchange() -> None:
    exchanges: list[Exchange] = []

    def interrupt(exchange: Exchange) -> None:
        exchanges.append(exchange)
        signal.raise_signal(signal.SIGINT)

    with FaultServer([Read(), SSE, Wait()]) as server, Client() as client:
        with pytest.raises(KeyboardInterrupt):
            client.exchange(get(server.url), on_read=interrupt)
        assert client.in_flight == 0
    assert isinstance(exchanges[0].error, CancelledError)


def test_what_ends_during_a_glance_is_for_the_next_poll() -> None:
    with FaultServer([Read(), response(b"{}")]) as server, Client() as client:
        exchange = client.submit(WireRequest(server.url))
        while not exchange.done:
            client.glance()
        assert client.in_flight == 1
        assert client.poll() == [exchange]
        assert client.in_flight == 0
        client.glance()
