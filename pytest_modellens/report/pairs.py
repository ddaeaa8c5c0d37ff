"""Comparisons as a table: for each configuration beside the first, how many times every case's value is."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from pytest_modellens.report.columns import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_modellens.report.compare import Ratio
    from pytest_modellens.report.comparison import Comparison

__all__ = ["OVERALL", "Compared", "Pair", "pairs"]

OVERALL = "all cases"
"""What the row, and in a plot the mark, of the mean over cases is called."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One metric of one case."""

    ratio: str
    interval: str
    """Of 95 %."""
    verdict: str
    """"better" or "worse" where the interval excludes 1, else "not clear"."""
    level: str
    """"good", "bad", or "" where it is not clear."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two configurations in every metric that they are compared by."""

    first: str
    second: str
    comparisons: list[Comparison]
    rows: list[tuple[str, list[Compared | None]]]
    """By case, one of each comparison; None where that has no such case."""


def pairs(found: Sequence[Comparison]) -> list[Pair]:
    """Return `found`, the metrics of one pair after the other, as pairs."""
    return [_pair([*group]) for _, group in groupby(found, key=lambda one: one.second.number)]


def _pair(found: list[Comparison]) -> Pair:
    columns = [_column(one) for one in found]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [(name, [column.get(name) for column in columns]) for name in names]
    return Pair(found[0].first.label, found[0].second.label, found, rows)


def _column(comparison: Comparison) -> dict[str, Compared]:
    whole = comparison.overall
    overall = {OVERALL: whole} if whole is not None and len(comparison.ratios) > 1 else {}
    return {name: _compared(comparison, ratio) for name, ratio in (overall | comparison.ratios).items()}


def _compared(comparison: Comparison, ratio: Ratio) -> Compared:
    if not ratio.is_different:
        verdict, level = "not clear", ""
    elif (ratio.value > 1) == (METRICS[comparison.metric].better == "higher"):
        verdict, level = "better", "good"
    else:
        verdict, level = "worse", "bad"
    return Compared(f"{ratio.value:.2f}×", f"{ratio.low:.2f} to {ratio.high:.2f}", verdict, level)
