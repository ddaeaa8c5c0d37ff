"""What keeps a measured cell from passing."""

from __future__ import annotations

from typing import Any

from pytest_modellens.findings import findings
from pytest_modellens.record import Record


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
    assert findings([record(ttft_ms=5.0)], planned=1) == []


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
