"""Ratios of two configurations: the gate's arithmetic, and how often it errs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pytest_modellens.gate import Calibration, judge
from pytest_modellens.report.compare import LEVEL, Ratio, ratios
from tests.gate.servers import Machine, frame

KNOWN = Calibration()


def arms(seed: int, *, gain: float = 0.0, is_one_session: bool) -> tuple[dict[str, list[float]], ...]:
    machine = Machine(seed, cases=6)
    one = machine.session()
    other = one if is_one_session else machine.session()
    logs = (machine.arm(one), machine.arm(other, drop=-gain))
    return tuple({f"case{at}": [*np.exp(row)] for at, row in enumerate(arm)} for arm in logs)


def overall(seed: int, *, gain: float = 0.0, is_one_session: bool) -> Ratio:
    first, second = arms(seed, gain=gain, is_one_session=is_one_session)
    found = ratios(first, second, calibration=KNOWN, is_one_session=is_one_session)
    assert found is not None
    return found.overall


def test_numbers_are_those_of_the_gate() -> None:
    machine = Machine(3)
    logs = machine.arm(0.0), machine.arm(0.01, drop=0.07)
    verdict = judge(frame(logs[0]), frame(logs[1]), limits={"tokens_per_second": -0.05}, design="stored")
    (metric,) = verdict.metrics
    first, second = ({f"case{at}": [*np.exp(row)] for at, row in enumerate(arm)} for arm in logs)
    found = ratios(first, second, calibration=KNOWN, is_one_session=False)
    assert found is not None
    assert found.overall.value - 1 == pytest.approx(metric.estimate)
    assert [found.cases[case.case].value - 1 for case in metric.cases] == pytest.approx(
        [case.estimate for case in metric.cases]
    )
    assert metric.low is not None
    assert metric.high is not None
    # The gate's interval is of 90 %, this one of 95 %; both by t with two degrees of freedom.
    factor = 4.302653 / 2.919986
    assert math.log(found.overall.high / found.overall.low) == pytest.approx(
        factor * math.log((1 + metric.high) / (1 + metric.low)), rel=1e-5
    )


def test_equal_samples_are_one_with_the_interval_of_sessions() -> None:
    found = ratios({"a": [5.0] * 9}, {"a": [5.0] * 9}, calibration=KNOWN, is_one_session=False)
    assert found is not None
    half = 4.302653 * math.sqrt(2 * (0.02**2 + 0.005**2))
    assert (found.overall.value, found.overall.p) == (1.0, 1.0)
    assert math.log(found.overall.high) == pytest.approx(half, rel=1e-5)
    assert not found.overall.is_different


def test_one_session_leaves_only_what_server_starts_differ_by() -> None:
    found = ratios({"a": [5.0] * 9}, {"a": [5.0] * 9}, calibration=KNOWN, is_one_session=True)
    assert found is not None
    assert math.log(found.overall.high) == pytest.approx(4.302653 * math.sqrt(2) * 0.005, rel=1e-5)
    assert found.overall.is_near


def test_calibration_of_the_machine_counts() -> None:
    values = {"a": [5.0] * 9}
    quiet = ratios(values, values, calibration=Calibration(session_sd=0.001), is_one_session=False)
    noisy = ratios(values, values, calibration=Calibration(session_sd=0.1), is_one_session=False)
    assert quiet is not None
    assert noisy is not None
    assert quiet.overall.high < 1.04
    assert noisy.overall.high > 1.5


def test_nothing_has_no_ratio() -> None:
    assert ratios({}, {}, calibration=KNOWN, is_one_session=True) is None


@pytest.mark.parametrize("is_one_session", [True, False])
def test_equals_are_called_different_no_more_often_than_it_says(is_one_session: bool) -> None:
    found = [overall(seed, is_one_session=is_one_session) for seed in range(200)]
    assert sum(one.is_different for one in found) / 200 <= LEVEL
    assert sum(one.p <= LEVEL for one in found) == sum(one.is_different for one in found)


@pytest.mark.parametrize(("is_one_session", "gain"), [(True, 0.1), (False, 0.25)])
def test_true_differences_are_found_and_lie_in_the_interval(is_one_session: bool, gain: float) -> None:
    found = [overall(seed, gain=gain, is_one_session=is_one_session) for seed in range(60)]
    assert sum(one.low <= 1 + gain <= one.high for one in found) >= 55
    assert sum(one.is_different for one in found) >= 54
    assert all(one.value > 1 for one in found)


def test_resolution_is_the_difference_that_is_seen_95_times_in_100() -> None:
    visible = overall(0, is_one_session=True).resolution
    found = [overall(seed, gain=visible, is_one_session=True) for seed in range(100)]
    assert sum(one.is_different for one in found) >= 92


def test_servers_asked_in_turn_are_compared_block_by_block() -> None:
    machine = Machine(3)
    logs = machine.arm(0.0), machine.arm(0.0, drop=0.07)
    (metric,) = judge(frame(logs[0]), frame(logs[1]), limits={"tokens_per_second": -0.05}).metrics
    first, second = ({f"case{at}": [*np.exp(row)] for at, row in enumerate(arm)} for arm in logs)
    blocks = {name: range(len(values)) for name, values in first.items()}
    found = ratios(first, second, calibration=KNOWN, is_one_session=True, blocks=(blocks, blocks))
    assert found is not None
    assert found.overall.value - 1 == pytest.approx(metric.estimate)
    assert found.overall.is_different
    assert found.overall.resolution < 0.06
    alone = ratios(first, second, calibration=KNOWN, is_one_session=True)
    assert alone is not None
    assert found.overall.resolution < alone.overall.resolution


def test_too_few_blocks_have_no_ratio() -> None:
    values, blocks = {"a": [1.0, 2.0, 3.0]}, ({"a": [0, 1, 2]}, {"a": [7, 8, 9]})
    assert ratios(values, values, calibration=KNOWN, is_one_session=True, blocks=blocks) is None
