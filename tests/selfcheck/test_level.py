"""Measured against true, on made-up numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import msgspec
import pytest

from pytest_modellens.measure.timeline import TextEvent, Timeline, TokenUsage
from pytest_modellens.selfcheck.level import Difference, Level, compare_level
from pytest_modellens.stats.percentile import percentile
from pytest_modellens.truth.records import SentEvent, SentRequest

MS = 1_000_000


def sent(*at_ms: int, requested: int = 10, ended: int = 510, call: int = 1) -> SentRequest:
    """Return what a server says that sent a token at each instant; each send took `call` ms."""
    return SentRequest(
        number=1,
        id="1",
        connection=1,
        scenario="steady",
        path="/v1/chat/completions",
        model="truth:steady",
        status=200,
        streamed=True,
        accepted_ns=0,
        arrived_ns=requested * MS,
        read_ns=(requested + 5) * MS,
        ended_ns=ended * MS,
        end="complete",
        blocked_sends=0,
        blocked_ns=0,
        events=tuple(SentEvent(at * MS, at * MS, (at + call) * MS, "content", 1, 100) for at in at_ms),
    )


def got(*at_ms: int, began: int = 10, ended: int = 510, counted: int | None = None) -> Timeline:
    """Return what a client says that got a token at each instant."""
    return Timeline(
        scheduled_ns=began * MS,
        sent_ns=began * MS,
        ended_ns=ended * MS,
        events=tuple(TextEvent(at * MS, "content", 1, has_content=True) for at in at_ms),
        usage=TokenUsage(completion=len(at_ms) if counted is None else counted, source="usage"),
    )


def p99(*values: float) -> float:
    found = percentile(values, 99)
    assert found is not None
    return found


RIGHT = (got(110, 210, 310), sent(110, 210, 310))
ZERO = Difference(0.0, 0.0, 0.0)


def test_what_is_measured_rightly_has_no_difference() -> None:
    level = compare_level(4, asked=2, pairs=[RIGHT, RIGHT])

    assert level == Level(
        concurrency=4,
        requests=2,
        failed=0,
        miscounted=0,
        tokens_per_second=12.0,
        ttft_ms=ZERO,
        itl_ms=ZERO,
        tpot_ms=ZERO,
        arrival_ms=ZERO,
        throughput=0.0,
        worst=0.0,
        worst_figure="TTFT p50",
    )
    assert level.holds


def test_differences_keep_the_sign_and_the_largest() -> None:
    level = compare_level(1, asked=2, pairs=[RIGHT, (got(114, 208, 306), sent(110, 210, 310))])

    assert level.ttft_ms == Difference(2.0, p99(0.0, 4.0), 4.0)
    assert level.itl_ms == Difference(-1.0, p99(0.0, 0.0, 2.0, 6.0), -6.0)
    assert level.tpot_ms == Difference(-2.0, p99(0.0, 4.0), -4.0)
    # 3 ms after the send had returned, and 2 and 4 ms before it began.
    assert level.arrival_ms == Difference(0.0, p99(0.0, 0.0, 0.0, 3.0, 2.0, 4.0), -4.0)
    assert level.worst_figure == "TTFT p99"
    assert level.worst == p99(100.0, 104.0) / 100 - 1
    assert not level.holds


def test_late_server_is_no_difference() -> None:
    late = (got(410, 411, 499), sent(410, 411, 499))
    assert compare_level(1, asked=1, pairs=[late]).worst == 0


def test_arrival_within_a_long_send_is_explained() -> None:
    level = compare_level(1, asked=1, pairs=[(got(130, 230, 330), sent(110, 210, 310, call=50))])
    assert level.arrival_ms == ZERO
    assert level.ttft_ms == Difference(20.0, 20.0, 20.0)


def test_throughput_is_compared_each_over_its_own_window() -> None:
    level = compare_level(1, asked=1, pairs=[(got(110, 210, 310, ended=410), RIGHT[1])])
    assert level.tokens_per_second == 6.0
    assert (level.throughput, level.worst, level.worst_figure) == (0.25, 0.25, "throughput")


def test_tolerance_is_one_percent_and_included() -> None:
    assert compare_level(1, asked=1, pairs=[(got(111, 211, 311), RIGHT[1])]).worst == pytest.approx(0.01)
    slightly_late = (replace(RIGHT[0], sent_ns=10 * MS - 990_000), RIGHT[1])
    assert compare_level(1, asked=1, pairs=[slightly_late]).holds
    too_late = (replace(RIGHT[0], sent_ns=10 * MS - 1_010_000), RIGHT[1])
    assert not compare_level(1, asked=1, pairs=[too_late]).holds


@pytest.mark.parametrize("timeline", [got(110, 210), got(110, 210, 310, counted=4), got(110, 310, counted=3)])
def test_wrong_counts_do_not_hold_and_are_left_out_of_the_times(timeline: Timeline) -> None:
    level = compare_level(1, asked=2, pairs=[RIGHT, (timeline, RIGHT[1])])
    assert (level.miscounted, level.failed, level.worst) == (1, 0, 0.0)
    assert not level.holds


def test_failed_requests_do_not_hold() -> None:
    level = compare_level(1, asked=3, pairs=[RIGHT, RIGHT])
    assert (level.failed, level.worst) == (1, 0.0)
    assert not level.holds


def test_nothing_measured_is_infinitely_wrong() -> None:
    level = compare_level(1, asked=3, pairs=[])
    assert (level.failed, level.worst, level.worst_figure) == (3, math.inf, "nothing was measured")
    assert all(map(math.isnan, (level.throughput, level.ttft_ms.p50, level.itl_ms.p99, level.tpot_ms.max)))
    assert not level.holds


def test_single_token_has_neither_gap_nor_time_per_token() -> None:
    level = compare_level(1, asked=1, pairs=[(got(110), sent(110))])
    assert (level.worst, level.ttft_ms) == (0.0, ZERO)
    assert math.isnan(level.itl_ms.p50)
    assert math.isnan(level.tpot_ms.p50)


def test_without_kernel_stamps_the_truth_counts_from_when_the_server_had_read() -> None:
    unstamped = msgspec.structs.replace(RIGHT[1], arrived_ns=None)
    assert compare_level(1, asked=1, pairs=[(RIGHT[0], unstamped)]).ttft_ms.p50 == 5.0
