"""Limits of the gate: signs, names, and the scale they are judged on."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pytest_modellens.errors import ConfigError
from pytest_modellens.gate.limits import RelativeLimit, relative_limits


@pytest.mark.parametrize(
    ("name", "limit", "message"),
    [
        (
            "tokens_per_second",
            0.05,
            "tokens_per_second: a higher value is better, so its limit must be negative (got 0.05; write -0.05)",
        ),
        ("ttft_ms", -0.1, "ttft_ms: a lower value is better, so its limit must be positive (got -0.1; write 0.1)"),
        ("goodput", 0.02, "goodput: a higher value is better, so its limit must be negative (got 0.02; write -0.02)"),
        ("token_per_second", -0.05, "token_per_second: unknown metric (did you mean 'tokens_per_second'?)"),
        ("speed", -0.05, "speed: unknown metric (ttft_ms, ttfo_ms, total_time_ms, tpot_ms, tokens_per_second, "),
        ("itl_ms", 0.1, "itl_ms: cannot be gated (ttft_ms, "),
        ("completion_tokens", 0.1, "completion_tokens: cannot be gated (ttft_ms, "),
        ("ttft_ms.p42", 0.1, "ttft_ms.p42: unknown statistic 'p42' (p50, p90, p95, p99 exist)"),
        ("ttft_ms.", 0.1, "ttft_ms.: unknown statistic '' (p50, p90, p95, p99 exist)"),
        ("goodput.p95", -0.1, "goodput.p95: unknown statistic 'p95' (goodput has no percentiles)"),
        ("tokens_per_second", 0, "tokens_per_second: its limit must be a number other than 0, such as −0.05 (got 0)"),
        ("tokens_per_second", math.nan, "must be a number other than 0, such as −0.05 (got nan)"),
        ("tokens_per_second", math.inf, "must be a number other than 0, such as −0.05 (got inf)"),
        ("tokens_per_second", "-5%", "must be a number other than 0, such as −0.05 (got '-5%')"),
        ("tokens_per_second", True, "must be a number other than 0, such as −0.05 (got True)"),
        ("tokens_per_second", -5, "tokens_per_second: nothing can fall by 500% (got -5; −0.05 means 5 %)"),
    ],
)
def test_limit_that_cannot_be_is_told(name: str, limit: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        relative_limits({name: limit})
    assert message in str(caught.value)


def test_no_limit_is_told() -> None:
    with pytest.raises(ConfigError, match="limits: none given"):
        relative_limits({})


def test_limit_knows_its_column_and_percentile() -> None:
    (limit,) = relative_limits({"ttft_ms.p95": 0.2})
    assert (limit.metric, limit.percentile, limit.is_share, limit.sign) == ("ttft_ms", 95.0, False, -1)


def test_distance_is_that_of_logarithms_and_of_shares() -> None:
    assert RelativeLimit("tokens_per_second", -0.05).distance() == pytest.approx(-math.log(0.95))
    assert RelativeLimit("ttft_ms", 0.1).distance(2) == pytest.approx(math.log(1.2))
    assert RelativeLimit("goodput", -0.02).distance(2) == 0.04
    assert RelativeLimit("tokens_per_second", -0.6).distance(2) == math.inf


def test_change_reads_as_the_metric_moves() -> None:
    assert RelativeLimit("tokens_per_second", -0.05).change(math.log(1.1)) == pytest.approx(0.1)
    assert RelativeLimit("ttft_ms", 0.1).change(math.log(1.1)) == pytest.approx(1 / 1.1 - 1)
    assert RelativeLimit("goodput", -0.02).change(-0.01) == -0.01
    assert RelativeLimit("ttft_ms", 0.1).change(-math.inf) > 1e300
