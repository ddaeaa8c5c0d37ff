"""What keeps a measured cell from passing."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_modellens.findings import findings, statistic
from pytest_modellens.record import Record
from pytest_modellens.suite.limits import Limit


def record(**fields: Any) -> Record:
    defaults: dict[str, Any] = {
        "suite": "s",
        "case": "c",
        "params": {},
        "provider": "p",
        "model": "m",
        "round": 0,
        "started_at": "2026-11-21T00:00:00.000+00:00",
        "ok": True,
    }
    return Record(**(defaults | fields))


def failed(error: str, error_class: str = "timeout", **fields: Any) -> Record:
    return record(ok=False, error=error, error_class=error_class, **fields)


def test_good_cell_has_no_findings() -> None:
    limit = Limit("ttft_ms", "p50", "<", 10.0)
    assert findings([record(ttft_ms=5.0)], limits=[limit], planned=1) == []


def test_failures_are_counted_by_class_and_shown() -> None:
    records = [failed("too\x1b[31m late"), failed("full", "http_5xx"), failed("full", "http_5xx"), record()]
    assert findings(records) == ["3 of 4 requests failed (2 × http_5xx, 1 × timeout)\n  too\\x1b[31m late\n  full"]


def test_only_three_reasons_are_shown() -> None:
    found = findings([failed(f"reason {number}") for number in range(5)])
    assert found[0].splitlines()[1:] == [
        "  reason 0",
        "  reason 1",
        "  reason 2",
        "  and 2 other reasons, all in requests.jsonl",
    ]


def test_requests_that_were_not_sent_are_counted() -> None:
    assert findings([failed("x")], planned=5, stopped="gone")[0].endswith("4 requests were not sent: gone")
    assert findings([record()], planned=3) == ["2 requests were not sent: the run was cut off"]


def test_load_that_ends_by_time_was_stopped_early() -> None:
    assert findings([failed("x")], stopped="it")[0].endswith("\n  x\n  stopped early: it")
    assert findings([record()], stopped="it") == ["stopped early: it"]


def test_cell_without_a_measured_request_does_not_pass() -> None:
    assert findings([]) == ["nothing was measured (0 requests of warm-up)"]
    assert findings([record(phase="warmup")]) == ["nothing was measured (1 requests of warm-up)"]
    assert len(findings([failed("x", phase="warmup")])) == 1


def test_failed_warmup_is_a_finding() -> None:
    assert findings([failed("x", phase="warmup"), record()])[0].startswith("1 of 2 requests failed")


def test_unexpected_answers_are_counted_among_measured_ones() -> None:
    records = [
        record(phase="warmup", expect_failures=["not judged"]),
        record(expect_failures=["a", "b"]),
        record(expect_failures=["b", "c", "d"]),
        record(),
        failed("x"),
    ]
    assert findings(records)[1] == "2 of 3 answers are not as expected\n  a\n  b\n  c"


def test_invalid_measurements_are_named_once() -> None:
    records = [record(invalid="cached"), record(invalid="cached"), record(phase="warmup", invalid="other")]
    assert findings(records) == ["not a valid measurement: cached"]


def test_limits_are_judged_over_good_measured_records() -> None:
    limit = Limit("ttft_ms", "max", "<", 10.0)
    records = [
        record(ttft_ms=5.0),
        record(ttft_ms=12.5),
        record(ttft_ms=99.0, phase="warmup"),
        record(ttft_ms=99.0, invalid="cached"),
    ]
    assert findings(records, limits=[limit])[-1] == "limit ttft_ms.max < 10: not kept (it is 12.5)"


def test_limit_without_values_cannot_be_judged() -> None:
    found = findings([record()], limits=[Limit("ttft_ms", "p95", "<", 10.0)])
    assert found == ["limit ttft_ms.p95 < 10: cannot be judged (no request brought ttft_ms)"]


@pytest.mark.parametrize(
    ("name", "value"), [("min", 1.0), ("max", 11.0), ("mean", 6.0), ("median", 6.0), ("p50", 6.0), ("p90", 10.0)]
)
def test_statistic_of_a_metric(name: str, value: float) -> None:
    records = [record(ttft_ms=ms) for ms in (*range(1, 11), 11.0, None)]
    assert statistic(records, "ttft_ms", name) == value


def test_statistic_pools_lists() -> None:
    records = [record(itl_ms=[1.0, 2.0]), record(itl_ms=None), record(itl_ms=[6.0])]
    assert statistic(records, "itl_ms", "mean") == 3.0
    assert statistic([record()], "itl_ms", "mean") is None
