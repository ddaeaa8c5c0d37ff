"""The clock, and arrival times by the best one that held."""

from __future__ import annotations

import struct
import sys
import time

import pytest

from pytest_modellens.measure import clock
from pytest_modellens.measure.client import Client
from pytest_modellens.measure.clock import STEP_NS, now_ns, realtime_offset_ns, stamp_ns, timespec_of
from pytest_modellens.measure.exchange import Exchange
from pytest_modellens.measure.reply import transport_of
from pytest_modellens.measure.wire import WireRequest
from tests.fault_server import SSE, FaultServer, Read, Wait, chunk, chunked
from tests.measure.exchanges import wait_for_bytes

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="kernel time stamps are Linux's")
OFFSET = 1_795_000_000_000_000_000


def exchange_with(*reads: tuple[int, int | None], sent: int = 1000, step: int = 0) -> Exchange:
    """Return a finished exchange of one-byte reads: (read time, arrival on the same scale or None)."""
    request = WireRequest("http://127.0.0.1:1", use_proxies=False)
    exchange = Exchange(request, request.route(), scheduled_ns=None, tag=None, on_read=None)
    exchange.mark_sent(sent)
    exchange.wall_offset_ns = OFFSET
    exchange.ended_offset_ns = OFFSET + step
    exchange.reads = [
        (read, timespec_of(None if arrived is None else arrived + OFFSET), b"x") for read, arrived in reads
    ]
    return exchange


@on_linux
def test_kernel_stamps_arrive_with_every_read() -> None:
    with FaultServer([Read(), SSE, Wait(0.01), chunk(b"a"), Wait(0.01), chunked(b"b")]) as server, Client() as client:
        exchange = client.exchange(WireRequest(server.url))
    arrivals = exchange.arrivals()
    assert (arrivals.clock, arrivals.note) == ("kernel", None)
    assert len(arrivals.stamps) == len(exchange.reads) == len(arrivals.read_delays_ns)
    assert arrivals.stamps == sorted(arrivals.stamps)
    assert exchange.sent_ns is not None
    assert exchange.sent_ns <= arrivals.stamps[0]
    assert all(stamp <= read for stamp, (read, _, _) in zip(arrivals.stamps, exchange.reads, strict=True))


@on_linux
def test_kernel_stamps_are_those_of_the_arrival_not_of_the_reading() -> None:
    with FaultServer([Read(), SSE + chunked(b"a")]) as server, Client() as client:
        exchange = client.submit(WireRequest(server.url))
        while not exchange.receiving:
            client.poll(0)
        assert exchange.connection is not None
        assert exchange.connection.sock is not None
        wait_for_bytes(exchange.connection.sock)
        time.sleep(0.05)
        client.poll(60)
    assert exchange.arrivals().read_delays_ns[0] > 10_000_000


@pytest.mark.parametrize("broken", ["unsupported", "refused"])
def test_without_kernel_stamps_reads_are_timed(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if broken == "unsupported":
        monkeypatch.setattr(clock, "_SUPPORTED", False)
    else:
        monkeypatch.setattr(clock, "_SUPPORTED", True)
        monkeypatch.setattr(clock, "SO_TIMESTAMPNS", 0x7FFF)
    with FaultServer([Read(), SSE, chunked(b"a")]) as server, Client() as client:
        exchange = client.exchange(WireRequest(server.url))
    arrivals = exchange.arrivals()
    assert (arrivals.clock, arrivals.note) == ("perf_counter", "no kernel time stamps on this platform or socket")
    assert arrivals.stamps == [read for read, _, _ in exchange.reads]
    assert arrivals.read_delays_ns == []


def test_realtime_offset_puts_the_wall_clock_on_our_scale() -> None:
    before = time.time_ns()
    here = now_ns() + realtime_offset_ns()
    after = time.time_ns()
    assert before - 1_000_000 <= here <= after + 1_000_000


def test_stamp_is_seconds_and_nanoseconds() -> None:
    assert stamp_ns(struct.pack("@qq", 3, 7)) == 3 * 10**9 + 7
    assert timespec_of(3 * 10**9 + 7) == struct.pack("@qq", 3, 7)


@pytest.mark.parametrize("timespec", [None, b"", struct.pack("@qq", 3, 7)[:8]])
def test_what_is_no_stamp_is_none(timespec: bytes | None) -> None:
    assert stamp_ns(timespec) is None
    assert timespec_of(None) is None


def test_arrivals_are_kernel_stamps_on_our_scale() -> None:
    arrivals = exchange_with((2000, 1900), (3000, 2950)).arrivals()
    assert (arrivals.stamps, arrivals.read_delays_ns, arrivals.clock) == ([1900, 2950], [100, 50], "kernel")


def test_arrivals_are_never_before_the_sending_nor_after_the_read() -> None:
    arrivals = exchange_with((2000, 900), (3000, 3500)).arrivals()
    assert (arrivals.stamps, arrivals.read_delays_ns) == ([1000, 3000], [1000, 0])


def test_arrivals_are_never_before_the_one_before() -> None:
    assert exchange_with((2000, 1990), (3000, 1500)).arrivals().stamps == [1990, 1990]


def test_read_without_a_stamp_is_timed_by_its_reading() -> None:
    arrivals = exchange_with((2000, 1900), (3000, None), (4000, None)).arrivals()
    assert arrivals.stamps == [1900, 3000, 4000]
    assert (arrivals.clock, arrivals.note) == ("kernel", "2 reads without a kernel stamp")


@pytest.mark.parametrize(("step", "clock_name"), [(STEP_NS, "kernel"), (STEP_NS + 1, "perf_counter")])
def test_small_drift_of_the_wall_clock_is_tolerated(step: int, clock_name: str) -> None:
    assert exchange_with((2000, 1900), step=step).arrivals().clock == clock_name
    assert exchange_with((2000, 1900), step=-step).arrivals().clock == clock_name


def test_step_of_the_wall_clock_falls_back_with_a_note() -> None:
    arrivals = exchange_with((2000, 1900), step=-3_600_000_000_000).arrivals()
    assert (arrivals.stamps, arrivals.clock, arrivals.read_delays_ns) == ([2000], "perf_counter", [])
    assert arrivals.note == "the wall clock was set by -3600000.0 ms during the request"


@on_linux
def test_wall_clock_that_is_set_during_a_request_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    offsets = iter([OFFSET, OFFSET + 5_000_000_000])
    with FaultServer([Read(), SSE, chunked(b"a")]) as server, Client() as client:
        monkeypatch.setattr("pytest_modellens.measure.client.realtime_offset_ns", lambda: next(offsets))
        monkeypatch.setattr("pytest_modellens.measure.exchange.realtime_offset_ns", lambda: next(offsets))
        exchange = client.exchange(WireRequest(server.url))
    arrivals = exchange.arrivals()
    assert (arrivals.clock, arrivals.note) == (
        "perf_counter",
        "the wall clock was set by +5000.0 ms during the request",
    )


@pytest.mark.parametrize(
    ("delays_ms", "p99"),
    [([], None), ([3], 3.0), ([1, 2], 2.0), (list(range(1, 101)), 99.0), (list(range(1, 202)), 199.0)],
)
def test_read_delay_is_the_p99_by_nearest_rank(delays_ms: list[int], p99: float | None) -> None:
    exchange = exchange_with(*((10**9 + at + delay * 10**6, 10**9 + at) for at, delay in enumerate(delays_ms)))
    exchange.reads = [(read, stamp, b"x") for read, stamp, _ in exchange.reads]
    arrivals = exchange.arrivals()
    assert transport_of(exchange, arrivals, coalesced_reads=0).read_delay_ms == p99


def test_plan_keeps_its_own_schedule() -> None:
    request = WireRequest("http://127.0.0.1:1", use_proxies=False)
    exchange = Exchange(request, request.route(), scheduled_ns=5, tag=None, on_read=None)
    exchange.mark_sent(9)
    exchange.restart(b"")
    exchange.mark_sent(20)
    assert (exchange.scheduled_ns, exchange.sent_ns) == (5, 20)
