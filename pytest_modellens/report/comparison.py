"""What of two configurations can be compared, and how they compare in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_modellens.errors import StorageError
from pytest_modellens.gate.calibration import Calibration
from pytest_modellens.gate.calibrations import known_for, read_calibrations
from pytest_modellens.gate.session import machine_facts
from pytest_modellens.report.columns import METRICS
from pytest_modellens.report.compare import MIN_VALUES, Ratio, ratios

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_modellens.gate.calibrations import Known
    from pytest_modellens.report.series import CellOf, SeriesOf
    from pytest_modellens.report.source import ReportRun

__all__ = ["COMPARED", "Comparison", "by_series", "compare", "comparisons"]

COMPARED = ("tokens_per_second", "ttft_ms")
"""The metrics that two configurations are compared by."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of one series against the first, case by case."""

    metric: str
    first: SeriesOf
    second: SeriesOf
    ratios: dict[str, Ratio]
    """By the case's name."""
    overall: Ratio | None
    left_out: dict[str, str]
    """Why a case is not compared, by its name."""
    known: Known | None = None
    """What is known of how the machine's numbers vary by themselves; None: the defaults were taken."""
    is_in_turn: bool = False
    """True when both were asked in turn, block by block."""

    @property
    def is_one_session(self) -> bool:
        """True when both were measured in one run."""
        return self.first.run == self.second.run


def comparisons(cells: Sequence[CellOf]) -> list[Comparison]:
    """Return each metric of every series beside the first; empty when there is only one."""
    first, *others = by_series(cells) or [[]]
    return [compare(metric, first, other) for other in others for metric in COMPARED]


def by_series(cells: Sequence[CellOf]) -> list[list[CellOf]]:
    """Return the cells of each series."""
    by_number: dict[int, list[CellOf]] = {}
    for cell in cells:
        by_number.setdefault(cell.series.number, []).append(cell)
    return [by_number[number] for number in sorted(by_number)]


def compare(metric: str, first: Sequence[CellOf], second: Sequence[CellOf]) -> Comparison:
    """Return how the cells of one series, `second`, are to those of another, in the cases that both have."""
    by_place = {cell.place: cell for cell in first}
    pairs: dict[str, tuple[CellOf, CellOf]] = {}
    left_out: dict[str, str] = {}
    for cell in second:
        base = by_place.pop(cell.place, None)
        why = "only one of them has it" if base is None else _incomparable(base, cell, metric)
        if base is None or why is not None:
            left_out[cell.name] = why or ""
        else:
            pairs[cell.name] = (base, cell)
    left_out |= {cell.name: "only one of them has it" for cell in by_place.values()}
    one, other = ({name: _values(pair[at], metric) for name, pair in pairs.items()} for at in (0, 1))
    blocks = [{name: _blocks(pair[at], metric) for name, pair in pairs.items()} for at in (0, 1)]
    is_in_turn = bool(pairs) and all(all(of.values()) for of in blocks)
    is_one_session = first[0].series.run == second[0].series.run
    known = _known(first[0].run, second[0].run, metric)
    found = ratios(
        one,
        other,
        calibration=known.calibration if known else Calibration(),
        is_one_session=is_one_session,
        blocks=(blocks[0], blocks[1]) if is_in_turn else None,
    )
    if found is None:
        left_out |= dict.fromkeys(pairs, f"fewer than {MIN_VALUES} blocks have values of both")
    return Comparison(
        metric,
        first[0].series,
        second[0].series,
        {} if found is None else {name: found.cases[name] for name in pairs},
        None if found is None else found.overall,
        left_out,
        known,
        is_in_turn,
    )


def _known(first: ReportRun, second: ReportRun, metric: str) -> Known | None:
    """Return what a calibration beside the runs knows of their machine; None where there is none, or two machines."""
    machine = machine_facts(first.meta)
    if first.folder is None or machine_facts(second.meta) != machine:
        return None
    try:
        return known_for(read_calibrations(first.folder.parent), machine, [metric])
    except StorageError:
        return None  # the gate tells what is wrong with it


def _values(cell: CellOf, metric: str) -> list[float]:
    return [value for value in cell.data.columns[metric] if value > 0]


def _blocks(cell: CellOf, metric: str) -> list[int]:
    """Return the block of each of `_values`; empty where the cell was not asked in turn with another."""
    blocks = cell.data.blocks[metric]
    return (
        [block for block, value in zip(blocks, cell.data.columns[metric], strict=True) if value > 0] if blocks else []
    )


def _incomparable(first: CellOf, second: CellOf, metric: str) -> str | None:
    """Return what keeps two cells of one case from being compared; None when nothing does."""
    one, other = first.data.facts, second.data.facts
    if one["case_hash"] and other["case_hash"] and one["case_hash"] != other["case_hash"]:
        return "they were asked different things (the suite changed)"
    if first.data.definitions != second.data.definitions:
        return "their metrics are defined differently"
    if metric == "tokens_per_second" and one["tokens_source"] != other["tokens_source"]:
        return "their tokens were counted differently"
    if metric == "tokens_per_second" and one["tokens_per_second_mode"] != other["tokens_per_second_mode"]:
        return "one was streamed and the other was not"
    fewest = min(len(_values(cell, metric)) for cell in (first, second))
    if not fewest:
        return f"no request brought {METRICS[metric].label}"
    return f"fewer than {MIN_VALUES} requests of one of them brought {METRICS[metric].label}" if fewest < MIN_VALUES \
        else None  # fmt: skip
