from __future__ import annotations

import pytest

from pytest_modellens.suite.limits import METRICS, STATISTICS, Limit, LimitError, parse_limit


@pytest.mark.parametrize(
    ("op", "kept", "broken"), [("<", 499.9, 500.0), ("<=", 500.0, 500.1), (">", 500.1, 500.0), (">=", 500.0, 499.9)]
)
def test_limit_holds_by_its_operator(op: str, kept: float, broken: float) -> None:
    limit = Limit("completion_tokens", "median", op, 500)
    assert limit.holds(kept)
    assert not limit.holds(broken)


def test_limit_never_holds_for_nan() -> None:
    assert not any(Limit("ttft_ms", "p95", op, 5).holds(float("nan")) for op in ("<", "<=", ">", ">="))


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("ttft_ms.p95", "< 500", "ttft_ms.p95 < 500"),
        ("ttft_ms.p99", " <=0.25 ", "ttft_ms.p99 <= 0.25"),
        ("tokens_per_second.median", ">= 1e3", "tokens_per_second.median >= 1000"),
        ("completion_tokens.min", "> 0", "completion_tokens.min > 0"),
    ],
)
def test_limit_is_shown_in_one_form(key: str, value: str, shown: str) -> None:
    assert str(parse_limit(key, value)) == shown


def test_limit_parses_every_metric_and_statistic() -> None:
    for metric, known in METRICS.items():
        for statistic in STATISTICS:
            for op in known.operators:
                assert parse_limit(f"{metric}.{statistic}", f"{op} 7") == Limit(metric, statistic, op, 7.0)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("ttft_ms", "< 5", "must be a metric, a dot and a statistic, such as ttft_ms.p95"),
        ("tfft_ms.p95", "< 5", "names an unknown metric 'tfft_ms' (did you mean 'ttft_ms'?)"),
        (
            "zzz.p95",
            "< 5",
            f"names an unknown metric 'zzz' ({', '.join(METRICS)} exist)",
        ),
        (
            "ttft_ms.p97",
            "< 5",
            "names an unknown statistic 'p97' (median, mean, min, max, p50, p90, p95, p99 exist)",
        ),
        ("ttft_ms.p95", 500, 'must be a comparison in quotes such as "< 500" (got 500)'),
        ("ttft_ms.p95", "500", "must be a comparison in quotes such as \"< 500\" (got '500')"),
        ("ttft_ms.p95", "< -1", "must be a comparison in quotes such as \"< 500\" (got '< -1')"),
        ("ttft_ms.p95", "< nan", "must be a comparison in quotes such as \"< 500\" (got '< nan')"),
        (
            "ttft_ms.p95",
            "< 500ms",
            "must be a comparison and a number alone, such as \"< 500\": its unit is that of ttft_ms (got '< 500ms')",
        ),
        ("ttft_ms.p95", "> 5", "must use < or <=, since a lower ttft_ms is better (got '> 5')"),
        (
            "tokens_per_second.mean",
            "< 5",
            "must use > or >=, since a higher tokens_per_second is better (got '< 5')",
        ),
        ("ttft_ms.p95", "< 0", "must have a bound that can be kept, such as \"< 500\" (got '< 0')"),
        ("ttft_ms.p95", "< 1e999", "must have a bound that can be kept, such as \"< 500\" (got '< 1e999')"),
    ],
)
def test_limit_error_says_the_right_form(key: str, value: object, message: str) -> None:
    with pytest.raises(LimitError) as caught:
        parse_limit(key, value)
    assert str(caught.value) == message
