"""Proofs against scipy's own tests, and how often they err."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import stats

from pytest_modellens.stats.percentile import min_n_for_upper_bound, percentile_interval
from pytest_modellens.stats.proof import TAIL, of_extreme, of_mean, of_percentile, of_share, p_values

if TYPE_CHECKING:
    from collections.abc import Callable


def keeps(bound: float, *, is_upper: bool) -> Callable[[float], bool]:
    return (lambda value: value < bound) if is_upper else (lambda value: value > bound)


def alone(values: object) -> list[list[float]]:
    return [[float(value)] for value in np.asarray(values)]


@pytest.mark.parametrize(("kept", "n", "share"), [(0, 5, 0.5), (3, 5, 0.5), (57, 60, 0.95), (60, 60, 0.95)])
def test_p_values_are_those_of_the_exact_binomial_test(kept: int, n: int, share: float) -> None:
    p_kept, p_broken = p_values(kept, n, share)
    assert p_kept == pytest.approx(stats.binomtest(kept, n, share, alternative="greater").pvalue)
    assert p_broken == pytest.approx(stats.binomtest(kept, n, share, alternative="less").pvalue)


def test_dependent_values_are_worth_fewer_and_rounded_to_where_they_prove_less() -> None:
    assert p_values(10, 10, 0.5, inflation=2.0) == p_values(5, 5, 0.5)
    # 9 of 10 are 4.5 of 5.
    assert p_values(9, 10, 0.5, inflation=2.0) == (p_values(4, 5, 0.5)[0], p_values(5, 5, 0.5)[1])
    assert p_values(1, 1, 0.5, inflation=3.0) == (1.0, 1.0)


@pytest.mark.parametrize("p", [50.0, 90.0, 95.0, 99.0])
def test_fewest_requests_that_prove_a_percentile_are_the_published_ones(p: float) -> None:
    n = min_n_for_upper_bound(p)
    for size, is_enough in ((n, True), (n - 1, False)):
        proof = of_percentile(alone(range(size)), p, lambda _: True, is_upper=True)
        assert proof.needed == n
        assert (proof.p_kept <= TAIL) is is_enough
        assert (proof.high is not None) is is_enough


def test_interval_is_that_of_order_statistics() -> None:
    values = np.random.default_rng(0).normal(size=200)
    proof = of_percentile(alone(values), 90.0, lambda value: value < 2, is_upper=True)
    interval = percentile_interval(values, 90.0, confidence=1 - 2 * TAIL)
    assert interval is not None
    assert (proof.low, proof.high) == (interval.low, interval.high)
    assert proof.estimate == pytest.approx(np.percentile(values, 90))


@pytest.mark.parametrize("is_upper", [True, False])
def test_proof_and_interval_agree(is_upper: bool) -> None:
    values = np.random.default_rng(1).normal(size=120)
    for bound in map(float, np.linspace(0.5, 2.5, 41)):
        proof = of_percentile(alone(values), 90.0, keeps(bound, is_upper=is_upper), is_upper=is_upper)
        assert proof.low is not None
        assert proof.high is not None
        kept, broken = (proof.high < bound, proof.low > bound) if is_upper else (proof.low > bound, proof.high < bound)
        assert (proof.p_kept <= TAIL, proof.p_broken <= TAIL) == (kept, broken)


def test_gaps_of_one_answer_count_once() -> None:
    answers = [[10.0] * 100 for _ in range(5)]
    proof = of_percentile(answers, 95.0, lambda value: value < 20, is_upper=True)
    assert (proof.n, proof.needed) == (5, 59)
    assert proof.p_kept == pytest.approx(0.95**5)
    enough = of_percentile(answers * 12, 95.0, lambda value: value < 20, is_upper=True)
    assert enough.p_kept <= TAIL
    assert enough.high == 10.0


def test_mean_is_students_t() -> None:
    values = np.random.default_rng(2).normal(size=12)
    proof = of_mean(alone(values), 0.3, lambda value: value < 0.3, is_upper=True)
    assert proof.p_kept == pytest.approx(stats.ttest_1samp(values, 0.3, alternative="less").pvalue)
    assert proof.p_broken == pytest.approx(stats.ttest_1samp(values, 0.3, alternative="greater").pvalue)
    low, high = stats.t.interval(0.9, 11, loc=values.mean(), scale=stats.sem(values))
    assert [proof.low, proof.high] == pytest.approx([low, high])
    other = of_mean(alone(values), 0.3, lambda value: value > 0.3, is_upper=False)
    assert (other.p_kept, other.p_broken) == (proof.p_broken, proof.p_kept)


def test_mean_of_lists_depends_on_how_requests_differ() -> None:
    # Five answers of a hundred equal gaps know no more than five gaps.
    means = [1.0, 2.0, 3.0, 4.0, 5.0]
    proof = of_mean([[value] * 100 for value in means], 2.0, lambda value: value < 2, is_upper=True)
    few = of_mean(alone(means), 2.0, lambda value: value < 2, is_upper=True)
    assert proof.p_broken == pytest.approx(few.p_broken)
    assert (proof.estimate, proof.n) == (3.0, 5)


def test_mean_without_spread_is_on_its_side_of_the_bound() -> None:
    for bound, p_values_ in ((4.0, (0.0, 1.0)), (3.9, (1.0, 0.0))):
        proof = of_mean(alone([4, 4, 4]), bound, keeps(bound + 1e-9, is_upper=True), is_upper=True)
        assert (proof.p_kept, proof.p_broken, proof.low, proof.high) == (*p_values_, 4.0, 4.0)


def test_mean_of_one_request_proves_nothing_and_one_that_is_no_number_is_not_kept() -> None:
    proof = of_mean([[4.0]], 100.0, lambda value: value < 100, is_upper=True)
    assert (proof.p_kept, proof.p_broken, proof.needed, proof.low) == (1.0, 1.0, 2, None)
    assert of_mean([[4.0], [math.nan]], 100.0, lambda value: value < 100, is_upper=True).p_broken == 0.0


def test_extreme_is_a_fact() -> None:
    for name, p_kept in (("max", 1.0), ("min", 0.0)):
        proof = of_extreme([[1.0, 9.0], [5.0]], name, lambda value: value < 6)
        assert proof.p_kept == p_kept == 1 - proof.p_broken
        assert proof.low == proof.high == proof.estimate == (9.0 if name == "max" else 1.0)


def test_share_has_wilsons_interval_and_the_exact_test() -> None:
    proof = of_share(57, 60, 0.95)
    low, high = stats.binomtest(57, 60).proportion_ci(0.9, method="wilson")
    assert [proof.low, proof.high] == pytest.approx([low, high])
    assert proof.p_broken == pytest.approx(stats.binomtest(57, 60, 0.95, alternative="less").pvalue)
    assert of_share(59, 59, 0.95).p_kept <= TAIL < of_share(58, 58, 0.95).p_kept
    assert of_share(1, 1, 0.95, inflation=2.0).low is None


@pytest.mark.parametrize("name", ["p50", "p95", "mean"])
def test_limit_at_the_true_value_is_seldom_taken_for_kept_or_broken(name: str) -> None:
    rng = np.random.default_rng(3)
    true = {"p50": 0.0, "p95": float(stats.norm.ppf(0.95)), "mean": 0.0}[name]
    wrong = np.zeros(2)
    for _ in range(1000):
        samples = alone(rng.normal(size=80))
        if name == "mean":
            proof = of_mean(samples, true, lambda value: value < true, is_upper=True)
        else:
            proof = of_percentile(samples, float(name[1:]), lambda value: value < true, is_upper=True)
        wrong += (proof.p_kept <= TAIL, proof.p_broken <= TAIL)
    # Exact tests err at most in 5 %; with 1,000 samples, 6.8 % is the 99.5th percentile of that.
    assert (wrong / 1000 <= 0.068).all()
    assert (wrong > 0).all()
