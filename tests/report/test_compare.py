"""Ratios of two configurations: known values, and intervals that hold what they promise."""

from __future__ import annotations

import math
import random

import pytest
from scipy.stats import mannwhitneyu

from pytest_modellens.report.compare import Ratio, overall, ratio


def near(mean: float, n: int, seed: int, spread: float = 0.1) -> list[float]:
    source = random.Random(seed)
    return [mean * math.exp(source.gauss(0, spread)) for _ in range(n)]


def test_ratio_of_equal_samples_is_one() -> None:
    assert ratio([5.0] * 4, [5.0] * 4, sd=0.0) == Ratio(1.0, 1.0, 1.0)


def test_ratio_is_of_the_second_to_the_first() -> None:
    found = ratio([10.0] * 6, [20.0] * 6, sd=0.0)
    assert found is not None
    assert found.value == pytest.approx(2.0)
    assert found.is_different


@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 3), (1, 30), (2, 5)])
def test_few_values_have_no_interval(n: int, m: int) -> None:
    found = ratio([1.0] * n, [2.0] * m, sd=0.02)
    assert found is not None
    assert (found.low, found.high, found.is_different) == (None, None, False)


@pytest.mark.parametrize(("first", "second"), [([], [1.0]), ([1.0], []), ([0.0, -1.0], [1.0])])
def test_nothing_positive_on_a_side_has_no_ratio(first: list[float], second: list[float]) -> None:
    assert ratio(first, second, sd=0.0) is None


@pytest.mark.parametrize(("n", "m"), [(4, 4), (5, 7), (8, 8), (12, 20), (25, 30)])
def test_interval_excludes_one_where_the_test_of_scipy_rejects(n: int, m: int) -> None:
    differ = {True: 0, False: 0}
    for seed in range(60):
        first, second = near(10, n, seed), near(11.2, m, seed + 1000)
        found = ratio(first, second, sd=0.0)
        assert found is not None
        p = mannwhitneyu(first, second, method="exact" if n * m <= 400 else "asymptotic").pvalue
        differ[found.is_different] += 1
        if abs(p - 0.05) > 0.002:
            assert found.is_different == (p < 0.05)
    assert min(differ.values()) > 0 or n < 5


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    held = 0
    for seed in range(400):
        found = ratio(near(10, 8, seed), near(13, 9, seed + 10_000), sd=0.0)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 1.3 <= found.high
    assert 0.93 <= held / 400 <= 0.985


def test_sessions_widen_the_interval() -> None:
    narrow, wide = (ratio([10.0] * 50, [10.0] * 50, sd=sd) for sd in (0.0, 0.02))
    assert narrow == Ratio(1.0, 1.0, 1.0)
    assert wide is not None
    assert wide.high == pytest.approx(math.exp(math.sqrt(2) * 1.96 * 0.02), rel=1e-4)
    assert wide.low == pytest.approx(1 / wide.high)  # type: ignore[operator]


def test_many_values_are_thinned_without_a_wider_interval() -> None:
    few, many = (ratio(near(10, n, 1), near(12, n, 2), sd=0.0) for n in (600, 6000))
    assert few is not None
    assert many is not None
    assert many.value == pytest.approx(1.2, rel=0.01)
    width = [math.log(one.high / one.low) for one in (few, many)]  # type: ignore[operator]
    assert width[0] / width[1] == pytest.approx(math.sqrt(10), rel=0.15)


def test_overall_is_the_geometric_mean_of_the_sure_ones() -> None:
    ratios = [Ratio(2.0, 1.9, 2.1), Ratio(0.5, 0.45, 0.55), Ratio(9.0, None, None)]
    found = overall(ratios, sd=0.0)
    assert found is not None
    assert found.value == pytest.approx(1.0)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 1 < found.high


def test_overall_of_cases_without_interval_has_none() -> None:
    assert overall([Ratio(2.0, None, None), Ratio(8.0, None, None)], sd=0.0) == Ratio(pytest.approx(4.0), None, None)  # type: ignore[arg-type]
    assert overall([], sd=0.0) is None


def test_many_cases_do_not_shrink_what_they_share() -> None:
    shared = math.exp(math.sqrt(2) * 1.96 * 0.02)
    one = Ratio(1.0, 1 / (shared * 1.001), shared * 1.001)
    found = overall([one] * 100, sd=0.02)
    assert found is not None
    assert found.high == pytest.approx(shared, rel=1e-3)
