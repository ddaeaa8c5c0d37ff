from __future__ import annotations

from random import Random

import pytest

from pytest_modellens.stats.transient import Truncation, drift, mser5


def brute_force(values: list[float]) -> int:
    batches = [sum(values[at : at + 5]) / 5 for at in range(0, len(values) - 4, 5)]
    k = len(batches)

    def mser(d: int) -> float:
        rest = batches[d:]
        mean = sum(rest) / len(rest)
        return sum((y - mean) ** 2 for y in rest) / len(rest) ** 2

    return 5 * min(range(k // 2 + 1), key=mser)


def test_constant_series_has_no_transient() -> None:
    assert mser5([3.0] * 100) == Truncation(0, settled=True)


def test_step_is_cut_where_it_is() -> None:
    assert mser5([100.0] * 20 + [1.0] * 100) == Truncation(20, settled=True)


def test_step_within_a_batch_is_cut_after_the_batch() -> None:
    assert mser5([100.0] * 22 + [1.0] * 98) == Truncation(25, settled=True)


def test_values_beyond_the_last_batch_are_left_out() -> None:
    assert mser5([1.0] * 100 + [1e9] * 4) == Truncation(0, settled=True)


@pytest.mark.parametrize("n", [0, 1, 49])
def test_short_series_keeps_everything(n: int) -> None:
    assert mser5([100.0] * (n // 2) + [1.0] * (n - n // 2)) == Truncation(0, settled=True)


def test_never_more_than_half_is_dropped_and_it_is_said() -> None:
    assert mser5([float(n) for n in range(100)]) == Truncation(50, settled=False)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_the_formula_written_out(seed: int) -> None:
    random = Random(seed)
    values = [random.gauss(10 + 50 * 0.9**n, 3) for n in range(203)]
    assert mser5(values).count == brute_force(values)


def test_large_values_keep_their_digits() -> None:
    assert mser5([1e9 + value for value in [3.0] * 15 + [0.5, 1.5] * 60]).count == 15


def test_series_that_ends_unlike_it_began_has_drifted() -> None:
    assert drift([20.0] * 40 + [2000.0] * 20) == (20.0, 2000.0)
    assert drift([50.0] * 12 + [30.0] * 36 + [10.0] * 12) == (50.0, 10.0)


@pytest.mark.parametrize(
    "values",
    [
        [],
        [20.0] * 29 + [2000.0] * 20,
        [20.0] * 60,
        [20.0] * 30 + [40.0] * 30,
        # A minority of another kind at the end, and at the beginning and the end alike.
        [20.0] * 56 + [2000.0] * 4,
        [20.0] * 20 + [2000.0] * 10 + [20.0] * 30,
        # Two kinds in turn, so that the median may be either.
        [*([20.0, 2000.0] * 30)[1:], 2000.0],
    ],
    ids=["nothing", "few", "steady", "just twice", "few at the end", "in the middle", "two kinds"],
)
def test_series_that_did_not_drift(values: list[float]) -> None:
    assert drift(values) is None


def test_noise_hardly_ever_drifts() -> None:
    random = Random(1)
    found = [drift([random.lognormvariate(3, 0.6) for _ in range(100)]) for _ in range(1000)]
    assert sum(one is not None for one in found) <= 5
