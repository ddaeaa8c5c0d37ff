"""Error rates: shared among tests, and among looks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pytest_modellens.gate.levels import holm, nominal_level


def test_holm_adjusts_as_in_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_never_goes_above_one_and_leaves_a_single_value() -> None:
    assert holm([0.6, 0.9]).tolist() == [1.0, 1.0]
    assert holm([0.02]).tolist() == [0.02]
    assert holm([]).size == 0


def test_one_look_has_the_whole_level() -> None:
    assert nominal_level(0.05, 1) == 0.05


@pytest.mark.parametrize("looks", [2, 3, 4])
@pytest.mark.parametrize("level", [0.005, 0.05])
def test_looks_err_together_at_the_level(looks: int, level: float) -> None:
    boundary = stats.norm.isf(nominal_level(level, looks))
    distance = abs(np.subtract.outer(np.arange(looks), np.arange(looks)))
    together = stats.multivariate_normal(cov=np.sqrt(0.5) ** distance, seed=1, abseps=1e-7, maxpts=2_000_000)
    assert 1 - together.cdf(np.full(looks, boundary)) == pytest.approx(level, rel=5e-3)


def test_two_looks_have_pococks_published_constant() -> None:
    # Jennison & Turnbull (2000), table 2.1: 2.178 for both sides at 0.05, which cross together next to never.
    assert stats.norm.isf(nominal_level(0.025, 2)) == pytest.approx(2.178, abs=2e-3)


def test_more_looks_have_a_lower_level() -> None:
    levels = [nominal_level(0.05, looks) for looks in (1, 2, 4, 8)]
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] > 0.05 / 8
