"""What is estimated of noise whose truth is known. Seeds are fixed, so that nothing here can flake."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_modellens.gate.memory import HIGHEST, Series, correlation
from pytest_modellens.gate.spread import Spread, estimate_spread
from tests.gate.nested import measured


def spreads(count: int, **more: object) -> list[Spread]:
    return [estimate_spread(measured(np.random.default_rng(seed), **more)) for seed in range(count)]  # type: ignore[arg-type]


def variance(values: list[float | None]) -> float:
    return float(np.mean([value**2 for value in values if value is not None]))


@pytest.mark.parametrize("interleaved", [False, True])
def test_variances_are_those_of_the_noise_on_average(interleaved: bool) -> None:
    found = spreads(60, interleaved=interleaved)
    # 60 estimates with 4 and 5 degrees of freedom: 9 % and 8 % off by chance, and as much again by the noise.
    assert variance([one.session_sd.seen for one in found]) == pytest.approx(0.02**2, rel=0.3)
    assert variance([one.start_sd.seen for one in found]) == pytest.approx(0.005**2, rel=0.4)
    assert np.mean([one.rho.seen for one in found]) == pytest.approx(0.3, abs=0.015)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    found = spreads(60)
    for name, truth in (("session_sd", 0.02), ("start_sd", 0.005), ("rho", 0.3)):
        estimates = [getattr(one, name) for one in found]
        assert np.mean([one.low <= truth <= one.high for one in estimates]) >= 0.88
        assert all(one.low <= one.seen <= one.high for one in estimates)


def test_noisy_machine_is_found_to_be_one_and_a_quiet_one_not_to_be() -> None:
    noisy, quiet = (
        spreads(20, session_sd=sd, start_sd=sd / 4, sessions=10, starts=3) for sd in (0.08, 0.0)
    )  # fmt: skip
    assert variance([one.session_sd.used for one in noisy]) == pytest.approx(0.08**2, rel=0.4)
    assert variance([one.start_sd.used for one in noisy]) == pytest.approx(0.02**2, rel=0.3)
    # Never nothing at all: what was not seen in ten sessions is held to be small.
    assert all(0.005 < one.session_sd.used < 0.015 for one in quiet)
    assert all(0.001 < one.start_sd.used < 0.005 for one in quiet)


def test_one_start_a_session_says_nothing_of_starts() -> None:
    found = spreads(30, starts=1)
    assert {one.start_sd.used for one in found} == {0.005}
    assert {one.start_sd.seen for one in found} == {None}
    assert variance([one.session_sd.seen for one in found]) == pytest.approx(0.02**2, rel=0.4)


def test_sessions_may_have_different_numbers_of_starts() -> None:
    uneven = [
        estimate_spread(
            [session[: 1 + number % 3] for number, session in enumerate(measured(rng, sessions=9, starts=3))]
        )
        for rng in map(np.random.default_rng, range(40))
    ]
    assert variance([one.session_sd.seen for one in uneven]) == pytest.approx(0.02**2, rel=0.3)
    assert variance([one.start_sd.seen for one in uneven]) == pytest.approx(0.005**2, rel=0.4)


def test_estimate_is_drawn_towards_the_default_as_if_that_were_two_sessions() -> None:
    (one,) = spreads(1, sessions=6, starts=1)
    assert one.session_sd.seen is not None
    assert one.session_sd.used**2 == pytest.approx((2 * 0.02**2 + 5 * one.session_sd.seen**2) / 7)


@pytest.mark.parametrize(("rho", "tolerance"), [(0.0, 0.02), (0.6, 0.02), (0.9, 0.03)])
def test_correlation_is_that_of_the_noise_and_not_of_what_is_left_of_it(rho: float, tolerance: float) -> None:
    found = [correlation([one for session in measured(np.random.default_rng(seed), rho=rho) for one in session])
             for seed in range(20)]  # fmt: skip
    assert np.mean(found) == pytest.approx(rho, abs=tolerance)


def test_long_series_is_cut_and_says_the_same() -> None:
    found = measured(np.random.default_rng(1), cases=2, rounds=1500, sessions=1, starts=1)
    assert correlation(found[0]) == pytest.approx(0.3, abs=0.05)


def test_correlation_of_no_noise_is_none_and_of_a_drift_is_the_highest() -> None:
    case = np.zeros(30, dtype=np.int64)
    assert correlation([Series(case, np.full(30, 4.0))]) == 0.0
    assert correlation([Series(case[:1], np.array([4.0]))] * 3) == 0.0
    alternating = np.tile([0.1, -0.1], 15)
    assert correlation([Series(case, alternating)]) == 0.0
    drift = np.cumsum(np.ones(30))
    assert correlation([Series(case, drift)] * 9) == HIGHEST
