"""Numbers of load cells, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_modellens.load.plan import LoadPlan
from pytest_modellens.load.summary import changed, is_full_for_long, summarise_load, transient
from pytest_modellens.stats.percentile import wilson
from pytest_modellens.stats.transient import Truncation
from pytest_modellens.suite.slo import Slo

S = 1_000_000_000


def record(sent_s: float, ended_s: float, **fields: Any) -> dict[str, Any]:
    good = {"phase": "measured", "ok": True, "completion_tokens": 10, "ttft_ms": 100.0, "total_time_ms": 1.0}
    return {**good, "sent_ns": round(sent_s * S), "ended_ns": round(ended_s * S), **fields}


def failed(sent_s: float, ended_s: float, error_class: str | None = "timeout") -> dict[str, Any]:
    return record(sent_s, ended_s, ok=False, error_class=error_class, completion_tokens=None, ttft_ms=None)


def test_throughput_is_over_the_window_of_measured_requests() -> None:
    records = [record(0, 1.5, phase="warmup"), record(1, 2), record(1.5, 3), record(2, 5)]
    summary = summarise_load(records)
    assert summary.window_s == 4
    assert (summary.n_started, summary.n_ok) == (3, 3)
    assert summary.request_throughput == 0.75
    assert summary.output_throughput == 7.5


def test_failed_requests_count_in_the_window_and_not_in_throughput() -> None:
    summary = summarise_load([record(0, 1), failed(0, 4), failed(1, 2, "http_429"), failed(1, 2, None)])
    assert summary.request_throughput == 0.25
    assert summary.output_throughput == 2.5
    assert summary.error_rate == 0.75
    assert summary.error_rates == {"http_429": 0.25, "other": 0.25, "timeout": 0.25}


def test_unknown_token_counts_make_no_throughput_of_tokens() -> None:
    summary = summarise_load([record(0, 1), record(0, 1, completion_tokens=None)])
    assert summary.output_throughput is None
    assert summary.request_throughput == 2


def test_goodput_has_every_started_request_in_its_denominator() -> None:
    slo = (Slo("ttft_ms", 200),)
    records = [record(0, 1), record(0, 2), record(1, 2, ttft_ms=300.0), record(1, 2, invalid="cached"), failed(1, 2)]
    summary = summarise_load(records, slo=slo)
    assert summary.n_good == 2
    assert summary.goodput == 0.4
    assert summary.goodput_interval == wilson(2, 5)
    assert summary.goodput_per_s == 1.0


def test_refusing_does_not_make_goodput_better() -> None:
    slo = (Slo("ttft_ms", 200),)
    slow = [record(0, 1), record(0, 1, ttft_ms=300.0)]
    refusing = [record(0, 1), failed(0, 0.01, "http_429")]
    assert summarise_load(slow, slo=slo).goodput == summarise_load(refusing, slo=slo).goodput == 0.5


def test_without_slos_there_is_no_goodput() -> None:
    summary = summarise_load([record(0, 1)])
    assert (summary.n_good, summary.goodput, summary.goodput_interval, summary.goodput_per_s) == (None,) * 4


def test_achieved_concurrency_is_weighted_by_time_until_the_last_sending() -> None:
    # Measured sendings from 0 to 4 s: one in flight for 2 s, two for 2 s. What drains after 4 s does not count.
    records = [record(0, 4), record(2, 9), record(4, 9)]
    summary = summarise_load(records, LoadPlan(concurrency=2, requests=3))
    assert summary.achieved_concurrency == 1.5
    assert (summary.asked, summary.achieved) == (2, 1.5)


def test_streams_that_had_not_begun_are_not_missed() -> None:
    plan = LoadPlan(concurrency=2, requests=4, stagger_s=10)
    # One stream for 10 s, then two.
    records = [record(0, 5), record(5, 10), record(10, 15), record(10, 20), record(15, 20)]
    assert summarise_load(records, plan).achieved_concurrency == 2
    # The second stream never came to it.
    assert summarise_load(records[:2], plan).achieved_concurrency == 1


def test_closed_loop_is_full_for_long_once_two_rounds_of_its_streams_were_sent() -> None:
    plan = LoadPlan(concurrency=2, requests=9, stagger_s=1)
    records = [record(at, at + 1) for at in range(6)]
    assert is_full_for_long(records, plan)
    assert not is_full_for_long(records[:5], plan)
    assert not is_full_for_long([record(0, 1), *(record(at, at + 1, phase="warmup") for at in range(6))], plan)
    assert not is_full_for_long([], plan)
    assert is_full_for_long([], LoadPlan(rate=2.0, requests=5))


def test_warmup_in_flight_counts_as_concurrency() -> None:
    records = [record(-1, 1, phase="warmup"), record(0, 2), record(2, 3)]
    assert summarise_load(records).achieved_concurrency == 1.5


def test_single_request_is_one_in_flight() -> None:
    summary = summarise_load([record(1, 3)], LoadPlan(concurrency=1, requests=1))
    assert summary.achieved_concurrency == 1
    assert summary.achieved_rate is None


def test_achieved_rate_is_over_the_gaps_of_sendings() -> None:
    records = [record(at / 2, 9) for at in range(5)]
    summary = summarise_load(records, LoadPlan(rate=2.5, requests=5))
    assert (summary.asked, summary.achieved) == (2.5, 2.0)


def test_requests_that_were_never_sent_are_failures_without_a_place_in_time() -> None:
    lost = {**failed(0, 1, "connect"), "sent_ns": None}
    summary = summarise_load([lost, record(2, 3), record(3, 4)])
    assert (summary.n_started, summary.window_s, summary.achieved_rate) == (3, 2, 1)
    alone = summarise_load([lost])
    assert (alone.window_s, alone.request_throughput, alone.achieved_concurrency, alone.error_rate) == (
        None,
        None,
        None,
        1,
    )


def test_nothing_measured_is_nothing_and_no_error() -> None:
    summary = summarise_load([], slo=(Slo("ttft_ms", 1),))
    assert (summary.n_started, summary.window_s, summary.goodput, summary.goodput_interval) == (0, None, None, None)
    assert summary.error_rate is None
    assert summary.asked is None


def test_transient_is_cut_by_the_time_of_sending() -> None:
    series = [record(at, at + 1, ttft_ms=1000.0 if at < 20 else 100.0) for at in range(120)]
    instant, found = transient([*reversed(series), record(-5, 0, phase="warmup"), failed(3, 4)])
    assert (instant, found) == (20 * S, Truncation(20, settled=True))


def test_transient_falls_back_to_the_total_time() -> None:
    series = [record(at, at + 1, ttft_ms=None, total_time_ms=9.0 if at < 20 else 1.0) for at in range(120)]
    assert transient(series)[0] == 20 * S


@pytest.mark.parametrize("fields", [{}, {"ttft_ms": None, "total_time_ms": None}])
def test_steady_load_has_no_transient(fields: dict[str, Any]) -> None:
    assert transient([record(at, at + 1, **fields) for at in range(60)]) == (None, Truncation(0, settled=True))


@pytest.mark.parametrize(
    ("at_first", "at_last", "said"),
    [
        ({"ttft_ms": 20.0}, {"ttft_ms": 2001.4}, "median TTFT 20 ms at first, 2,001 ms at last"),
        (
            {"ttft_ms": None, "total_time_ms": 9.25},
            {"ttft_ms": None, "total_time_ms": 1.0},
            "median total time 9.25 ms at first, 1 ms at last",
        ),
        ({}, {}, None),
        ({"ttft_ms": None, "total_time_ms": None}, {"ttft_ms": None, "total_time_ms": None}, None),
    ],
)
def test_load_that_changes_says_how(at_first: dict[str, Any], at_last: dict[str, Any], said: str | None) -> None:
    series = [record(at, at + 1, **(at_first if at < 40 else at_last)) for at in range(60)]
    assert changed([*reversed(series), record(70, 71, phase="warmup", ttft_ms=1e9), failed(3, 4)]) == said
