"""Bounds: how they are written, and what a run proves of them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from pytest_modellens.gate.absolute import judge_absolute
from pytest_modellens.gate.bounds import AbsoluteLimit, is_absolute, parse_bound
from pytest_modellens.gate.calibration import Calibration
from pytest_modellens.gate.session import Session
from pytest_modellens.gate.show_bounds import bound_lines
from pytest_modellens.gate.specs import parse_bounds, parse_limits

ALONE = Calibration(session_sd=0.0, start_sd=0.0, rho=0.0)


def session(cases: dict[str, Any], metric: str = "tokens_per_second", **facts: Any) -> Session:
    rows = [
        {"case": name, "start": 0, "block": at, "t": at, metric: value, "error": None}
        for name, values in cases.items()
        for at, value in enumerate(values)
    ]
    about = {"streamed": True, "slo": [], **facts}
    return Session(name="r", made_at=None, machine={}, cases={name: dict(about) for name in cases}, rows=rows)


def noisy(middle: float, n: int = 20, *, seed: int = 0, sd: float = 0.05) -> Any:
    return middle * np.exp(sd * np.random.default_rng(seed).normal(size=n))


SPEED = AbsoluteLimit("tokens_per_second", ">=", 40.0)
TAIL_95 = AbsoluteLimit("ttft_ms.p95", "<=", 500.0)
GOODPUT_95 = AbsoluteLimit("goodput", ">=", 0.95)


@pytest.mark.parametrize(
    ("text", "bound", "shown"),
    [
        ("tokens_per_second:>=40", SPEED, "tokens_per_second >= 40"),
        ("ttft_ms.p95:<=500", TAIL_95, "ttft_ms.p95 <= 500"),
        ("ttft_ms.p95:<5e2", AbsoluteLimit("ttft_ms.p95", "<", 500.0), "ttft_ms.p95 < 500"),
        ("goodput:>=95%", GOODPUT_95, "goodput >= 95 %"),
        ("goodput:>99.5%", AbsoluteLimit("goodput", ">", 0.995), "goodput > 99.5 %"),
    ],
)
def test_bound_is_read_and_shown(text: str, bound: AbsoluteLimit, shown: str) -> None:
    assert is_absolute(text)
    assert parse_bound(text) == bound
    assert str(bound) == shown


def test_changes_and_bounds_may_be_mixed() -> None:
    text = "tokens_per_second:-5% tokens_per_second:>=40 ttft_ms.p95:<=500"
    assert parse_limits(text) == {"tokens_per_second": -0.05}
    assert parse_bounds(text) == (SPEED, TAIL_95)
    assert parse_limits("tokens_per_second:>=40") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tokens_per_second:>=", "must be a metric and its bound, such as tokens_per_second:>=40 or ttft_ms.p95:<=500"),
        ("tokens_per_second:>=-40", "must be a metric and its bound, *"),
        ("tokens_per_second:>=nan", "must be a metric and its bound, *"),
        ("tokens_per_second:<=40", "must use >= or > with tokens_per_second, of which a higher value is better"),
        ("ttft_ms.p95:>=500", "must use <= or < with ttft_ms, of which a lower value is better"),
        ("speed:>=40", "cannot be used: speed: unknown metric (ttft_ms, *goodput exist)"),
        ("itl_ms.p95:<=40", "cannot be used: itl_ms.p95: cannot be gated (*"),
        ("ttft_ms.p97:<=40", "cannot be used: ttft_ms.p97: unknown statistic 'p97' (p50, p90, p95, p99 exist)"),
        ("goodput.p95:>=95%", "cannot be used: goodput.p95: unknown statistic 'p95' (goodput has no percentiles)"),
        ("goodput:>=0.95", "must give goodput in per cent, above 0 and below 100: goodput:>=95%"),
        ("goodput:>=100%", "must give goodput in per cent, *"),
        (
            "ttft_ms:<=500ms",
            "must give a number above 0 alone, whose unit is that of ttft_ms (time to first token, ms)",
        ),
        ("ttft_ms:<=0", "must give a number above 0 alone, *"),
        ("ttft_ms:<=1e400", "must give a number above 0 alone, *"),
        ("tokens_per_second:>=40%", "must give a number above 0 alone, *"),
        ("ttft_ms:<=5 ttft_ms:<6", "must not bound ttft_ms twice"),
    ],
)
def test_bound_that_cannot_be_says_what_is_right(text: str, message: str) -> None:
    for parse in (parse_bounds, parse_limits):
        with pytest.raises(ValueError) as caught:
            parse(text)
        begin, star, _ = message.partition("*")
        assert str(caught.value).startswith(begin) if star else str(caught.value) == message


def only(found: Any) -> Any:
    (one,) = found.bounds
    return one.found


@pytest.mark.parametrize(("middle", "verdict"), [(60.0, "pass"), (40.0, "inconclusive"), (20.0, "fail")])
def test_typical_request_is_judged_with_few_requests(middle: float, verdict: str) -> None:
    found = judge_absolute(session({"a": noisy(middle, 5)}), [SPEED])
    assert found.name == only(found).verdict == verdict
    assert found.exit_status == {"pass": 0, "fail": 1, "inconclusive": 3}[verdict]


def test_typical_request_is_students_t_of_logarithms() -> None:
    values = noisy(41.0, 5)
    one = only(judge_absolute(session({"a": values}), [SPEED], calibration=ALONE))
    logs = np.log(values)
    low, high = np.exp(stats.t.interval(0.9, 4, loc=logs.mean(), scale=stats.sem(logs)))
    assert [one.estimate, one.low, one.high] == pytest.approx([math.exp(logs.mean()), low, high])
    dependent = only(judge_absolute(session({"a": values}), [SPEED]))
    assert dependent.high / dependent.low > one.high / one.low


def test_values_without_any_spread_are_on_their_side() -> None:
    for value, verdict in ((40.0, "pass"), (39.9, "fail"), (40.1, "pass")):
        assert only(judge_absolute(session({"a": [value] * 4}), [SPEED])).verdict == verdict


def test_too_few_requests_are_counted() -> None:
    two = only(judge_absolute(session({"a": [60.0, 61.0]}), [SPEED]))
    assert (two.verdict, two.missing) == ("inconclusive", 1)
    tail = only(judge_absolute(session({"a": noisy(100, 20)}, "ttft_ms"), [TAIL_95], calibration=ALONE))
    assert (tail.verdict, tail.missing) == ("inconclusive", 39)
    assert "too few: 39 more could prove that it is kept" in tail.reason
    # Requests that depend on each other are worth fewer.
    dependent = only(judge_absolute(session({"a": noisy(100, 20)}, "ttft_ms"), [TAIL_95]))
    assert dependent.missing == 68
    assert only(judge_absolute(session({"a": noisy(100, 88)}, "ttft_ms"), [TAIL_95])).verdict == "pass"
    assert only(judge_absolute(session({"a": noisy(100, 87)}, "ttft_ms"), [TAIL_95])).verdict == "inconclusive"


def test_percentile_that_is_broken_by_far_fails_with_few_requests() -> None:
    assert only(judge_absolute(session({"a": noisy(900, 5)}, "ttft_ms"), [TAIL_95])).verdict == "fail"


def test_error_rate_is_one_for_all_cases_and_bounds() -> None:
    values = noisy(37.6, 12, seed=1)
    alone = judge_absolute(session({"a": values}), [SPEED])
    others = {f"b{at}": noisy(60, 12, seed=at) for at in range(400)}
    many = judge_absolute(session({"a": values} | others), [SPEED])
    assert (alone.name, many.name) == ("fail", "inconclusive")
    assert many.cases("inconclusive") == ("a",)


def test_unchanged_server_at_its_bounds_fails_as_seldom_as_declared() -> None:
    rng = np.random.default_rng(5)
    failed = 0
    for _ in range(300):
        cases = {}
        for name in "abcdefghij":
            noise = rng.normal(size=20)
            for at in range(1, 20):
                noise[at] = 0.3 * noise[at - 1] + math.sqrt(1 - 0.3**2) * noise[at]
            cases[name] = 40.0 * np.exp(0.05 * noise)
        failed += judge_absolute(session(cases), [SPEED]).name == "fail"
    # 1 % is declared: of 300, 9 or more come once in 250 times.
    assert failed <= 8


def test_goodput_is_the_exact_binomial_test() -> None:
    met = [1] * 90 + [0] * 10
    one = only(judge_absolute(session({"a": met}, "goodput", slo=["x"]), [GOODPUT_95], alpha=0.05, calibration=ALONE))
    assert one.verdict == "fail"
    assert one.reason == "not kept (it is 90.0 % in 100 requests, at least 84.0 % and at most 93.9 % with 95 % each)"
    few = only(judge_absolute(session({"a": [1] * 10}, "goodput", slo=["x"]), [GOODPUT_95], calibration=ALONE))
    assert (few.verdict, few.missing) == ("inconclusive", 49)
    assert only(judge_absolute(session({"a": [1] * 100}, "goodput"), [GOODPUT_95])).verdict == "pass"


def test_cases_that_cannot_have_the_metric_are_left_out() -> None:
    mixed = session({"a": [1] * 100, "b": [None] * 5}, "goodput")
    assert [one.case for one in judge_absolute(mixed, [GOODPUT_95]).bounds] == ["a"]
    mixed = session({"a": noisy(100, 90), "b": [None] * 5}, "ttft_ms")
    mixed.cases["b"]["streamed"] = False
    assert [one.case for one in judge_absolute(mixed, [TAIL_95]).bounds] == ["a"]


@pytest.mark.parametrize("values", [[None] * 5, [math.nan, math.inf], [0.0, -1.0]])
def test_case_without_values_cannot_be_judged(values: Any) -> None:
    found = judge_absolute(session({"a": noisy(60), "b": values}), [SPEED])
    assert (found.name, found.exit_status) == ("incomparable", 4)
    assert found.cases("incomparable") == ("b",)
    assert found.bounds[1].found.reason == "cannot be judged (no request brought tokens_per_second)"
    nothing = judge_absolute(session({"a": [None]}, "goodput"), [GOODPUT_95])
    assert nothing.cases("incomparable") == ("a",)


def test_verdict_is_plain_json() -> None:
    plain = json.loads(json.dumps(judge_absolute(session({"a": noisy(60)}), [SPEED]).to_json(), allow_nan=False))
    assert plain["name"] == plain["bounds"][0]["verdict"] == "pass"
    assert (plain["bounds"][0]["case"], plain["alpha"], plain["calibrated"]) == ("a", 0.01, False)


def test_verdict_is_told_worst_first_and_in_few_lines() -> None:
    cases = {f"case-{at:02}": noisy(20, 12, seed=at) for at in range(12)} | {"good": noisy(60), "\x1b[31m": [50.0]}
    lines = bound_lines(judge_absolute(session(cases), [SPEED]))
    assert lines[:2] == ["absolute gate: fail", "tokens_per_second >= 40: fail"]
    assert lines[2].startswith("  case-00: not kept (it is ")
    assert lines[-2:] == ["  and 3 more", "  kept in 1 of 14 cases"]
    assert all(len(line) <= 80 for line in lines)
    assert not any("\x1b" in line for line in lines)
    good = bound_lines(judge_absolute(session({"a": noisy(60), "b": noisy(70)}), [SPEED]))
    assert good == ["absolute gate: pass", "tokens_per_second >= 40: pass in 2 of 2 cases"]
    one = bound_lines(judge_absolute(session({"a": noisy(60)}), [SPEED]), width=200)
    assert one[1:] == [
        "tokens_per_second >= 40: pass in 1 of 1 case",
        "  a: kept (it is 59.55 in 20 requests, at least 58.13 and at most 61 with 95 % each)",
    ]
