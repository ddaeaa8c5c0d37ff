"""How the client finds out that a response is whole, or will never be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_modellens.errors import CancelledError, ProtocolError
from pytest_modellens.measure.client import Client
from pytest_modellens.measure.exchange import Exchange
from pytest_modellens.measure.wire import WireRequest
from tests.fault_server import SSE, Close, FaultServer, Read, Reset, Step, Wait, chunk, chunked, response
from tests.measure.exchanges import body, get

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.usefixtures("each_poller")

EVENT = b"data: 1\n\n"
CRLF_EVENT = b"data: 1\r\n\r\n"


def exchange_of(reads: Sequence[bytes]) -> Exchange:
    """Return an exchange that has received these reads and looked at none."""
    wire = WireRequest("http://127.0.0.1:1", use_proxies=False)
    exchange = Exchange(wire, wire.route(), scheduled_ns=None, tag=None, on_read=None)
    exchange.reads = [(number, None, data) for number, data in enumerate(reads)]
    exchange.bytes_received = sum(map(len, reads))
    return exchange


@pytest.mark.parametrize(
    ("reads", "complete"),
    [
        ([b"HTTP/1.1 200 OK\r\n\r\n", b"a", b"b"], [False, False, False]),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"a", b"b"], [False, False, True]),
        ([b"HTTP/1.1 200 OK\r\n", b"Content-Length: 1\r\n\r\n", b"a"], [False, False, True]),
        ([SSE, chunk(b"abcdef"), b"0\r\n", b"\r\n"], [False, False, False, True]),
        ([SSE, chunk(b"abcdef"), b"0\r\nX: y\r", b"\n\r\n"], [False, False, False, True]),
        ([SSE, chunk(b"data: 1\r\n\r\n"), chunked(b"x")], [False, False, True]),
    ],
)
def test_last_read_is_recognised(reads: list[bytes], complete: list[bool]) -> None:
    exchange = exchange_of([])
    seen = []
    for data in reads:
        exchange.reads.append((0, None, data))
        seen.append(exchange.is_complete())
    assert seen == complete


STREAM = chunk(b"a") + chunk(CRLF_EVENT) + chunk(b"bc") + b"0003;x=1\r\ndef\r\n" + b"0\r\nX: y\r\n\r\n"


def test_reads_looked_at_together_are_what_they_are_one_by_one() -> None:
    for size in range(1, len(STREAM) + 1):
        reads = [SSE, *(STREAM[at : at + size] for at in range(0, len(STREAM), size))]
        together, one_by_one = exchange_of(reads), exchange_of([])
        for number, data in enumerate(reads):
            one_by_one.reads.append((number, None, data))
            assert one_by_one.is_complete() == (number == len(reads) - 1), size
        assert together.is_complete(), size
        assert together.parser.pieces == one_by_one.parser.pieces, size
        assert body(together) == b"a" + CRLF_EVENT + b"bcdef"


def test_whole_chunks_are_taken_together_and_the_end_of_a_chunk_later() -> None:
    whole = [chunk(b"a"), chunk(EVENT), chunk(b"a")]
    exchange = exchange_of([SSE, *whole, chunk(b"bc")[:-2], b"\r\n", *whole, chunk(b"d") + chunk(b"e"), b"0\r\n\r\n"])
    assert exchange.is_complete()
    assert body(exchange) == b"a" + EVENT + b"abca" + EVENT + b"ade"
    assert [read for read, _ in exchange.parser.pieces] == [1, 2, 3, 4, 6, 7, 8, 9, 9]


def test_reads_behind_the_end_are_no_part_of_the_response() -> None:
    exchange = exchange_of([SSE, chunked(b"a") + b"HTT", b"P/1.1 200 OK\r\n\r\n"])
    assert exchange.is_complete()
    assert [number for number, _, _ in exchange.reads] == [0, 1]
    assert exchange.bytes_received == len(SSE + chunked(b"a") + b"HTT")
    assert (exchange.parser.surplus, exchange.parser.keep_alive) == (True, False)


def test_reads_behind_damage_are_no_part_of_the_response() -> None:
    exchange = exchange_of([SSE, chunk(b"a"), b"zz\r\n", chunk(b"b"), chunk(b"c")])
    with pytest.raises(ProtocolError, match="malformed chunk size b'zz'"):
        exchange.catch_up()
    exchange.end(CancelledError("enough"))
    assert (len(exchange.reads), exchange.fed, body(exchange)) == (3, 3, b"a")
    assert exchange.bytes_received == len(SSE + chunk(b"a")) + 4


@pytest.mark.parametrize(
    "end",
    [
        pytest.param([chunked(b"c")], id="in-one"),
        pytest.param([chunk(b"c"), Wait(0.01), b"0\r\n\r\n"], id="alone"),
        pytest.param([chunk(b"c") + b"0\r", Wait(0.01), b"\n\r", Wait(0.01), b"\n"], id="in-pieces"),
        pytest.param([chunk(b"c") + b"0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n"], id="trailers"),
        pytest.param([chunk(b"c") + b"000;last\r\n\r\n"], id="extension"),
    ],
)
@pytest.mark.parametrize("event", [EVENT, CRLF_EVENT])
def test_chunked_stream_ends_with_its_last_chunk(event: bytes, end: list[Step]) -> None:
    steps: list[Step] = [Read(), SSE, Wait(0.01), chunk(event), Wait(0.01), chunk(event), *end]
    with FaultServer([*steps, Read(), response(b"next")]) as server, Client() as client:
        first, second = client.exchange(get(server.url)), client.exchange(get(server.url))
    assert (first.error, body(first), first.closed_ns) == (None, 2 * event + b"c", None)
    assert (body(second), second.reused) == (b"next", True)


@pytest.mark.parametrize("end", [Wait(), Close()], ids=["open", "closed"])
def test_what_follows_the_end_in_its_read_does_not_hide_it(end: Step) -> None:
    steps: list[Step] = [Read(), SSE, Wait(0.01), chunked(b"a") + b"surplus", end]
    with FaultServer(steps, [Read(), response(b"next")]) as server, Client() as client:
        first, second = client.exchange(get(server.url)), client.exchange(get(server.url))
    assert (first.error, body(first), first.closed_ns) == (None, b"a", None)
    assert (body(second), second.reused) == (b"next", False)


def test_what_follows_the_end_does_not_hide_it_from_a_lost_connection() -> None:
    steps: list[Step] = [Read(), SSE, Wait(0.01), chunked(b"a") + b"surplus", Wait(0.01), Reset()]
    with FaultServer(steps) as server, Client() as client:
        exchange = client.exchange(get(server.url))
    assert (exchange.error, body(exchange)) == (None, b"a")


@pytest.mark.parametrize("end", [Wait(), Wait(0.01), Close(), Reset()], ids=["open", "closed later", "closed", "reset"])
def test_damage_is_what_is_said_whatever_follows(end: Step) -> None:
    steps: list[Step] = [Read(), SSE, Wait(0.01), chunk(b"a") + b"zz\r\nmore", Wait(0.01), end]
    with FaultServer(steps) as server, Client() as client:
        exchange = client.exchange(get(server.url))
    assert isinstance(exchange.error, ProtocolError)
    assert str(exchange.error) == "malformed chunk size b'zz'"
    assert body(exchange) == b"a"


def test_stream_of_small_chunks_is_cut_off_too() -> None:
    def drip(connection: object) -> None:
        while True:
            connection.sendall(chunk(b"x" * 100))  # type: ignore[attr-defined]

    with FaultServer([Read(), SSE, drip]) as server, Client() as client:
        exchange = client.exchange(WireRequest(server.url, max_response_bytes=2**16))
    assert str(exchange.error) == "response larger than 0 MiB; the rest was not read"
    assert exchange.bytes_received > 2**16
