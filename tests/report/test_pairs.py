"""Comparisons as a table."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_modellens.report.comparison import comparisons
from pytest_modellens.report.pairs import OVERALL, Pair, pairs
from pytest_modellens.report.series import cells_of, short_names
from tests.report import runs


def paired(first: list[dict[str, Any]], *others: list[dict[str, Any]]) -> list[Pair]:
    named = [runs.run(rows, f"20261121T203000Z-{number}") for number, rows in enumerate((first, *others))]
    return pairs(comparisons(cells_of(named)))


def test_every_case_has_its_ratio_in_every_metric() -> None:
    base = [*runs.records(12), *runs.records(12, case="b")]
    (pair,) = paired(base, [*runs.records(12, speed=2), *runs.records(12, case="b", speed=0.5)])
    assert (pair.first, pair.second) == ("0", "1")
    assert [name for name, _ in pair.rows] == [OVERALL, "capital", "b"]
    (_, (whole, _)), (_, (speed, first)), (_, (slow, late)) = pair.rows
    assert speed is not None
    assert first is not None
    assert slow is not None
    assert late is not None
    assert whole is not None
    assert (speed.ratio, speed.verdict, speed.level) == ("2.00×", "better", "good")
    assert (first.ratio, first.verdict) == ("0.50×", "better")
    assert (slow.ratio, slow.verdict, slow.level) == ("0.50×", "worse", "bad")
    assert (late.ratio, late.verdict) == ("2.00×", "worse")
    assert (whole.ratio, whole.verdict, whole.level) == ("1.00×", "not clear", "")
    low, high = map(float, speed.interval.split(" to "))
    assert low < 2 < high


def test_one_case_needs_no_mean_and_a_metric_may_be_missing() -> None:
    base = [*runs.records(9), *runs.records(9, case="whole", ttft_ms=None)]
    (pair,) = paired(base, base)
    assert [name for name, _ in pair.rows] == [OVERALL, "capital", "whole"]
    assert pair.rows[2][1][1] is None
    (single,) = paired(runs.records(9), runs.records(9))
    assert [name for name, _ in single.rows] == ["capital"]


def test_any_number_of_runs_is_compared_with_the_first() -> None:
    found = paired(*[runs.records(9)] * 3, [runs.record(case="other")])
    assert [(pair.first, pair.second, len(pair.rows)) for pair in found] == [
        ("0", "1", 1),
        ("0", "2", 1),
        ("0", "3", 0),
    ]


def test_baseline_that_was_asked_in_turn_is_what_the_other_is_held_against() -> None:
    rows = [
        row
        for number in range(12)
        for row in (
            runs.record(number, provider="new", arm="candidate", speed=2),
            runs.record(number, provider="old", arm="baseline"),
        )
    ]
    (pair,) = pairs(comparisons(cells_of([runs.run(rows)])))
    assert (pair.first, pair.second) == ("old", "new")
    ((_, (speed, _)),) = pair.rows
    assert speed is not None
    assert (speed.ratio, speed.verdict) == ("2.00×", "better")


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["20261121T203000Z-a", "20261121T203000Z-b"], ["a", "b"]),
        (["20261121T203000Z-a", "20261121T203100Z-a"], ["a 20:30", "a 20:31"]),
        (["20261121T203000Z-a", "20261121T203007Z-a"], ["a 20:30:00", "a 20:30:07"]),
        (["20261121T203000Z-a", "20261122T203000Z-a"], ["a 2026-11-21 20:30", "a 2026-11-22 20:30"]),
        (["mine", "20261122T203000Z-a"], ["mine", "a"]),
        (["mine", "mine"], ["mine", "mine"]),
    ],
)
def test_runs_are_called_by_as_much_as_tells_them_apart(names: list[str], shown: list[str]) -> None:
    assert short_names([runs.run(None, name) for name in names]) == shown
