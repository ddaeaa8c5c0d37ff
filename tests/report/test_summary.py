from __future__ import annotations

from typing import Any

from pytest_modellens.report.cell_key import CellKey, cell_key
from pytest_modellens.report.cells import is_averaged
from pytest_modellens.report.summary import Distribution, summarise
from pytest_modellens.stats.percentile import Interval
from tests.report.runs import bare


def record(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "ttft_ms": 10.0,
        "total_time_ms": 100.0,
        "tpot_ms": 20.0,
        "tokens_per_second": 50.0,
        "tokens_per_second_mode": "generation",
        "completion_tokens": 5,
        "tokens_source": "usage",
        "itl_ms": [20.0, 20.0],
    }
    return bare(**fields | changes)


def failure(error_class: str | None = "timeout") -> dict[str, Any]:
    return record(
        ok=False,
        error_class=error_class,
        ttft_ms=9999.0,
        itl_ms=[9999.0],
        tokens_per_second=0.0,
        completion_tokens=None,
    )


def test_summary_of_no_records_is_empty() -> None:
    assert summarise([]) == []


def test_cells_are_told_apart_by_their_key_in_order_of_appearance() -> None:
    records = [
        record(case="b"),
        record(case="a", params={"x": 1, "a": 2}),
        record(case="a", params={"a": 2, "x": 1}),
        record(case="a", model=None),
        record(case="b", provider="ollama"),
        record(case="b", suite="other.yaml"),
    ]
    assert [(cell.key, cell.n) for cell in summarise(iter(records))] == [
        (CellKey("suites/chat.yaml", "b", "{}", "vllm", "tiny"), 1),
        (CellKey("suites/chat.yaml", "a", '{"a":2,"x":1}', "vllm", "tiny"), 2),
        (CellKey("suites/chat.yaml", "a", "{}", "vllm", None), 1),
        (CellKey("suites/chat.yaml", "b", "{}", "ollama", "tiny"), 1),
        (CellKey("other.yaml", "b", "{}", "vllm", "tiny"), 1),
    ]
    assert cell_key(records[1]) == cell_key(records[2])


def test_warmup_failed_and_invalid_requests_are_never_averaged_in() -> None:
    (cell,) = summarise(
        [
            record(ttft_ms=10.0),
            record(ttft_ms=20.0, expect_failures=["no 'Paris'"]),
            record(ttft_ms=9999.0, phase="warmup"),
            record(ttft_ms=9999.0, phase="warmup", ok=False),
            record(ttft_ms=9999.0, invalid="the prompt was cached", itl_ms=[9999.0], tokens_source="events"),
            failure("timeout"),
            failure("timeout"),
            failure("connect"),
            failure(None),
        ]
    )
    assert (cell.n, cell.n_ok, cell.n_errors, cell.n_invalid, cell.n_averaged) == (7, 3, 4, 1, 2)
    assert cell.n_expect_failed == 1
    assert cell.errors_by_class == {"timeout": 2, "connect": 1, "other": 1}
    assert (cell.ttft_ms.n, cell.ttft_ms.mean, cell.ttft_ms.p50) == (2, 15.0, 15.0)
    assert (cell.itl_ms.n, cell.itl_ms.p99) == (4, 20.0)
    assert (cell.output_tokens, cell.tokens_source, cell.tokens_estimated) == (10, "usage", False)


def test_cell_with_warmup_only_is_not_summarised() -> None:
    assert summarise([record(phase="warmup")]) == []


def test_cell_whose_warmup_failed_is_summarised_without_numbers() -> None:
    (cell,) = summarise([record(phase="warmup", ok=False)])
    assert (cell.n, cell.n_errors, cell.n_warmup_failed, cell.ttft_ms.n) == (0, 0, 1, 0)


def test_requests_with_cached_prompts_are_counted() -> None:
    (cell,) = summarise([record(cached_tokens=5), record(cached_tokens=0), record(cached_tokens=None)])
    assert cell.n_cached == 1


def test_cell_with_failures_only_has_no_numbers() -> None:
    (cell,) = summarise([failure()])
    nothing = Distribution(0, None, None, None, None, None, None)
    assert (cell.ttft_ms, cell.total_time_ms, cell.tpot_ms) == (nothing, nothing, nothing)
    assert (cell.tokens_per_second, cell.itl_ms) == (nothing, nothing)
    assert (cell.output_tokens, cell.tokens_source, cell.tokens_per_second_mode) == (None, "unknown", None)
    assert cell.median_interval is None


def test_value_that_some_requests_lack_is_averaged_over_the_others() -> None:
    (cell,) = summarise([record(tpot_ms=None, itl_ms=None), record(tpot_ms=30.0)])
    assert (cell.tpot_ms.n, cell.tpot_ms.mean, cell.itl_ms.n) == (1, 30.0, 2)


def test_median_has_an_interval_from_six_requests_on() -> None:
    speeds = [60.0, 50.0, 40.0, 30.0, 20.0, 10.0]
    (five,) = summarise([record(tokens_per_second=speed) for speed in speeds[:5]])
    (six,) = summarise([record(tokens_per_second=speed) for speed in speeds])
    assert five.median_interval is None
    assert six.tokens_per_second.p50 == 35.0
    assert six.median_interval == Interval(10.0, 60.0, 1 - 2 / 2**6)


def test_pooled_gaps_have_no_interval() -> None:
    (cell,) = summarise([record(itl_ms=[1.0] * 100)])
    assert cell.itl_ms == Distribution(100, 1.0, 1.0, 1.0, 1.0, 1.0, None)


def test_token_sources_are_mixed_when_counts_come_from_several() -> None:
    (cell,) = summarise([record(), record(tokens_source="events")])
    assert (cell.tokens_source, cell.tokens_estimated) == ("mixed", True)


def test_token_source_of_a_request_without_count_does_not_matter() -> None:
    (cell,) = summarise([record(), record(tokens_source="unknown", completion_tokens=None)])
    assert (cell.tokens_source, cell.output_tokens) == ("usage", 5)


def test_estimate_is_marked() -> None:
    (cell,) = summarise([record(tokens_source="events")])
    assert (cell.tokens_source, cell.tokens_estimated) == ("events", True)


def test_speeds_of_both_modes_are_mixed() -> None:
    (cell,) = summarise([record(), record(tokens_per_second_mode="end_to_end")])
    assert cell.tokens_per_second_mode == "mixed"


def test_record_is_averaged_only_when_measured_successful_and_valid() -> None:
    assert is_averaged(record())
    assert not is_averaged(failure())
    assert not is_averaged(record(invalid="cached"))
    assert not is_averaged(record(phase="warmup"))
