from __future__ import annotations

import math
import random
from array import array

import numpy as np
import pytest

from pytest_modellens.stats.percentile import (
    Interval,
    mean,
    median_interval,
    min_n_for_upper_bound,
    one_sided_bounds,
    percentile,
    percentile_interval,
    wilson,
)


def test_percentile_interpolates_between_neighbours() -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], 50) == 2.5
    assert percentile([10.0, 20.0], 25) == 12.5
    assert percentile([10.0, 20.0], 75) == 17.5
    assert [percentile([3.0, 1.0, 2.0], p) for p in (0, 50, 100)] == [1.0, 2.0, 3.0]
    assert percentile([7.0], 99) == 7.0


def test_percentile_is_exactly_that_of_numpy() -> None:
    dice = random.Random(1)
    for n in (1, 2, 3, 10, 101, 1000):
        values = [dice.lognormvariate(3, 1) for _ in range(n)]
        assert [percentile(values, p) for p in range(101)] == [float(np.percentile(values, p)) for p in range(101)]


@pytest.mark.parametrize("n", [1, 5, 6, 1000])
def test_array_has_the_percentiles_of_a_list(n: int) -> None:
    values = [random.Random(n + k).lognormvariate(0, 1) for k in range(n)]
    assert percentile(array("d", values), 95) == percentile(values, 95)
    assert median_interval(array("d", values)) == median_interval(values)


def test_percentile_of_equal_values_is_exactly_that_value() -> None:
    assert {percentile([0.1] * 7, p) for p in range(101)} == {0.1}


def test_everything_is_none_without_values() -> None:
    assert mean([]) is None
    assert percentile([], 50) is None
    assert median_interval([]) is None
    assert percentile_interval([], 90) is None
    assert one_sided_bounds([], 90, tail=0.05) == (None, None)
    assert wilson(0, 0) is None


def test_mean_is_rounded_once() -> None:
    assert mean([0.1] * 10) == 0.1
    assert mean(iter([1.0, 2.0])) == 1.5


@pytest.mark.parametrize("p", [-1, 101, math.nan])
def test_percentile_refuses_what_is_no_percentile(p: float) -> None:
    with pytest.raises(ValueError, match="percentile: must be from 0 to 100"):
        percentile([1.0], p)


@pytest.mark.parametrize(
    ("n", "low", "high", "reached"),
    [
        # reached = 1 - 2 P(Bin(n, 1/2) < low), by hand from the binomial coefficients
        (6, 1, 6, 1 - 2 * 1 / 2**6),
        (8, 1, 8, 1 - 2 * 1 / 2**8),
        (9, 2, 8, 1 - 2 * (1 + 9) / 2**9),
        (10, 2, 9, 1 - 2 * (1 + 10) / 2**10),
        (15, 4, 12, 1 - 2 * (1 + 15 + 105 + 455) / 2**15),
        (20, 6, 15, 1 - 2 * (1 + 20 + 190 + 1140 + 4845 + 15504) / 2**20),
    ],
)
def test_median_interval_has_the_ranks_of_the_tables(n: int, low: float, high: float, reached: float) -> None:
    interval = median_interval([float(rank) for rank in range(n, 0, -1)])
    assert interval is not None
    assert (interval.low, interval.high) == (low, high)
    assert interval.confidence_reached == pytest.approx(reached, abs=1e-14)


def test_median_interval_needs_six_values_at_95_percent() -> None:
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0]) is None
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) is not None


def test_median_interval_counts_a_confidence_that_is_reached_exactly() -> None:
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0], 1 - 2 / 2**5) == Interval(1.0, 5.0, 1 - 2 / 2**5)


def test_percentile_interval_needs_both_tails() -> None:
    # 0.9^36 = 0.0225 is the first power of 0.9 below 0.025
    assert percentile_interval(range(35), 90) is None
    assert percentile_interval(range(36), 90) is not None
    assert percentile_interval(range(35), 10) is None


def test_percentile_interval_of_a_low_percentile_mirrors_the_high_one() -> None:
    values = [float(rank) for rank in range(1, 101)]
    high, low = percentile_interval(values, 90), percentile_interval(values, 10)
    assert high is not None
    assert low is not None
    assert (low.low, low.high) == (101 - high.high, 101 - high.low)
    assert low.confidence_reached == pytest.approx(high.confidence_reached, abs=1e-12)


@pytest.mark.parametrize(("p", "n"), [(50, 30), (90, 100), (95, 200)])
def test_percentile_interval_covers_the_truth_as_often_as_it_says(p: int, n: int) -> None:
    rng = np.random.default_rng(20261121)
    truth = -math.log(1 - p / 100)
    covered, said = 0, 0.0
    rounds = 2000
    for sample in rng.exponential(size=(rounds, n)).tolist():
        interval = percentile_interval(sample, p)
        assert interval is not None
        covered += interval.low <= truth <= interval.high
        said = interval.confidence_reached
    assert said >= 0.95
    # four standard errors of a proportion of 2000
    assert abs(covered / rounds - said) < 4 * math.sqrt(said * (1 - said) / rounds)


@pytest.mark.parametrize(("p", "n"), [(50, 5), (90, 29), (95, 59), (99, 299)])
def test_upper_bound_needs_the_published_sample_size(p: int, n: int) -> None:
    assert min_n_for_upper_bound(p) == n
    assert one_sided_bounds(range(n - 1), p, tail=0.05)[1] is None
    assert one_sided_bounds(range(n), p, tail=0.05)[1] == n - 1


def test_upper_bound_leaves_out_the_largest_values_of_a_large_sample() -> None:
    # P(Bin(46, 0.1) <= 1) = 0.9^46 + 46 * 0.1 * 0.9^45 = 0.0480 allows the second largest; with 45 it is 0.0524
    assert one_sided_bounds(range(46), 90, tail=0.05)[1] == 44
    assert one_sided_bounds(range(45), 90, tail=0.05)[1] == 44


def test_bounds_of_dependent_values_are_those_of_fewer() -> None:
    assert one_sided_bounds([*range(10), math.nan], 50, tail=0.05, inflation=2.0) == (0, 9)
    assert one_sided_bounds(range(5), 50, tail=0.05) == (0, 4)
    assert one_sided_bounds(range(8), 50, tail=0.05, inflation=2.0) == (None, None)


def test_smallest_n_is_at_least_one_and_exact_at_the_edge() -> None:
    assert min_n_for_upper_bound(50, 0.5) == 1
    assert min_n_for_upper_bound(50, 0.75) == 2
    assert min_n_for_upper_bound(1, 0.5) == 1


def test_wilson_has_the_values_of_the_textbook() -> None:
    # Newcombe 1998, table I: 81 of 263, and 0 of 20 at 95 %
    interval = wilson(81, 263)
    assert interval is not None
    assert (round(interval.low, 4), round(interval.high, 4)) == (0.2553, 0.3662)
    none = wilson(0, 20)
    assert none is not None
    assert (none.low, round(none.high, 4)) == (0.0, 0.1611)
    assert none.confidence_reached == 0.95


def test_wilson_of_all_successes_ends_at_one() -> None:
    interval, mirrored = wilson(20, 20), wilson(0, 20)
    assert interval is not None
    assert mirrored is not None
    assert interval.high == 1.0
    assert interval.low == pytest.approx(1 - mirrored.high, abs=1e-15)


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (0, -1)])
def test_wilson_refuses_impossible_counts(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="successes: must be from 0 to n"):
        wilson(successes, n)


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_confidence_outside_0_and_1_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence: must be between 0 and 1"):
        median_interval([1.0], confidence)


@pytest.mark.parametrize("p", [0, 100])
def test_interval_of_an_extreme_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match="percentile: must be between 0 and 100"):
        percentile_interval([1.0], p)
