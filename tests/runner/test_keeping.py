"""Limits: kept, not kept, or not decided by as few requests as there were."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_modellens.keeping import judge_limit
from pytest_modellens.suite.limits import Limit
from tests.runner.test_findings import record


def records(values: Any, metric: str = "ttft_ms") -> list[Any]:
    return [record(**{metric: value}) for value in values]


def limit(statistic: str = "p95", op: str = "<", bound: float = 500, metric: str = "ttft_ms") -> Limit:
    return Limit(metric, statistic, op, bound)


def test_limit_that_is_kept_by_a_margin_is_proved() -> None:
    found = judge_limit(limit(), records([100 + number for number in range(59)]))
    assert (found.verdict, found.missing, found.n) == ("pass", None, 59)
    assert str(found) == (
        "limit ttft_ms.p95 < 500: kept (it is 155.1 in 59 requests, at least 152 and at most 158 with 95 % each)"
    )


def test_limit_that_is_broken_by_a_margin_fails_even_with_few_requests() -> None:
    found = judge_limit(limit(), records([800, 810, 790]))
    assert found.verdict == "fail"
    assert str(found) == "limit ttft_ms.p95 < 500: not kept (it is 809 in 3 requests, at least 800 with 95 % each)"
    found = judge_limit(limit("median", ">", 20, "tokens_per_second"), records([2.0] * 5, "tokens_per_second"))
    assert str(found) == "limit tokens_per_second.median > 20: not kept (it is 2 in 5 requests)"


def test_too_few_requests_for_the_percentile_are_counted() -> None:
    found = judge_limit(limit("p99"), records([100.0] * 20))
    assert (found.verdict, found.missing) == ("inconclusive", 279)
    assert found.reason.endswith("too few: 279 more could prove that it is kept)")
    assert judge_limit(limit("p99"), records([100.0] * 299)).verdict == "pass"
    one = judge_limit(limit("mean"), records([100.0]))
    assert str(one) == (
        "limit ttft_ms.mean < 500: not decided (it is 100 in 1 request; too few: 1 more could prove that it is kept)"
    )


def test_limit_within_the_interval_is_not_decided() -> None:
    found = judge_limit(limit("median"), records([480, 490, 495, 505, 510, 520]))
    assert (found.verdict, found.missing) == ("inconclusive", None)
    assert str(found) == (
        "limit ttft_ms.median < 500: not decided (it is 500 in 6 requests, at least 480 and at most 520 with 95 % each)"
    )


@pytest.mark.parametrize(("op", "verdict"), [("<=", "pass"), ("<", "fail"), (">=", "pass"), (">", "fail")])
def test_counts_that_are_all_the_bound_itself_are_decided(op: str, verdict: str) -> None:
    for statistic in ("median", "mean", "min", "max"):
        found = judge_limit(limit(statistic, op, 4, "completion_tokens"), records([4] * 6, "completion_tokens"))
        assert found.verdict == verdict


def test_extremes_are_of_these_requests() -> None:
    found = judge_limit(limit("max", bound=10.0), records([5.0, 12.5]))
    assert str(found) == "limit ttft_ms.max < 10: not kept (it is 12.5 in 2 requests)"
    assert judge_limit(limit("min", bound=10.0), records([5.0, 12.5])).verdict == "pass"


def test_gaps_are_pooled_and_an_answer_counts_once() -> None:
    answers = records([[10.0] * 50, None, []] * 5, "itl_ms")
    found = judge_limit(limit("p95", bound=20, metric="itl_ms"), answers)
    assert (found.n, found.missing) == (5, 54)
    assert judge_limit(limit("mean", bound=20, metric="itl_ms"), answers).verdict == "pass"


def test_limit_without_values_cannot_be_judged() -> None:
    found = judge_limit(limit(), [record()])
    assert found.verdict == "incomparable"
    assert str(found) == "limit ttft_ms.p95 < 500: cannot be judged (no request brought ttft_ms)"


def test_value_that_is_no_number_keeps_to_nothing() -> None:
    assert judge_limit(limit("median"), records([float("nan")] * 6)).verdict == "fail"


def test_verdict_is_plain_json() -> None:
    plain = json.loads(json.dumps(judge_limit(limit(), records([1.0])).to_json()))
    assert plain.keys() == {"limit", "verdict", "reason", "estimate", "low", "high", "n", "missing"}
