"""How one metric of two arms is compared, by design and by kind of metric."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pytest_modellens.gate.frames import IncomparableError, some
from pytest_modellens.gate.paired import blocks_of, compare_blocks
from pytest_modellens.gate.shares import compare_share_sessions, compare_shares
from pytest_modellens.gate.stored import compare_sessions
from pytest_modellens.gate.tails import compare_tail_sessions, compare_tails
from pytest_modellens.gate.verdict import ARMS

if TYPE_CHECKING:
    from pytest_modellens.gate.calibration import Calibration
    from pytest_modellens.gate.effects import Comparison
    from pytest_modellens.gate.frames import Table
    from pytest_modellens.gate.limits import RelativeLimit

__all__ = ["compare"]

WHOLE_ANSWER = {"total_time_ms", "e2e_tokens_per_second"}
"""Metrics that follow from how long the answer is."""
LENGTH_TOLERANCE = 0.05


def compare(
    table: Table, limit: RelativeLimit, *, design: str, calibration: Calibration, levels: tuple[float, float]
) -> Comparison:
    """Return how the candidate changed.

    Raises:
        IncomparableError: it cannot be said.
    """
    if limit.metric in WHOLE_ANSWER:
        _check_lengths(table, limit)
    if limit.is_share:
        return _compare_shares(table, limit, design=design, calibration=calibration, levels=levels)
    values = table.values(limit)
    if design == "ab":
        blocks = blocks_of(table, values)
        if limit.percentile is not None:
            return compare_tails(table, values, blocks, limit, calibration=calibration, levels=levels)
        return compare_blocks(blocks, sign=limit.sign, calibration=calibration)
    if limit.percentile is not None:
        return compare_tail_sessions(table, values, limit, calibration=calibration)
    return compare_sessions(table, values, sign=limit.sign, calibration=calibration)


def _compare_shares(
    table: Table, limit: RelativeLimit, *, design: str, calibration: Calibration, levels: tuple[float, float]
) -> Comparison:
    """Return how a share changed, over the cases that have one: not every case has objectives."""
    there = ~np.isnan(table.numbers(limit.metric))
    has = [np.bincount(table.case[there & (table.arm == arm)], minlength=len(table.cases)) > 0 for arm in (0, 1)]
    lacking = has[0] != has[1]
    if lacking.any() and has[0].any() and has[1].any():
        names = some(name for name, lacks in zip(table.cases, lacking, strict=True) if lacks)
        raise IncomparableError(f"{limit.name}: only one of {' and '.join(ARMS)} has values of {names}")
    kept = has[0] if has[0].any() else np.ones(len(table.cases), dtype=bool)
    part = table.of_cases(kept)
    values = part.values(limit)
    if design == "ab":
        found = compare_shares(blocks_of(part, values), calibration=calibration, levels=levels)
    else:
        found = compare_share_sessions(part, values, calibration=calibration)
    return replace(found, cases=found.cases.at(kept))


def _check_lengths(table: Table, limit: RelativeLimit) -> None:
    """Refuse answers that became longer or shorter: their times say nothing about the server's speed."""
    tokens = table.numbers("completion_tokens")
    shape = (2, len(table.cases))
    usable = tokens > 0
    place = np.ravel_multi_index((table.arm, table.case), shape)[usable]
    count = np.bincount(place, minlength=shape[0] * shape[1]).reshape(shape)
    if (count == 0).any():
        raise IncomparableError(f"{limit.name}: the lengths of the answers are not known (no completion_tokens)")
    mean = np.bincount(place, weights=tokens[usable], minlength=shape[0] * shape[1]).reshape(shape) / count
    moved = float(np.exp(np.mean(np.log(mean[1] / mean[0]))) - 1)
    if abs(moved) > LENGTH_TOLERANCE:
        raise IncomparableError(
            f"{limit.name}: answers are {abs(moved):.0%} {'longer' if moved > 0 else 'shorter'} than the baseline's "
            f"({LENGTH_TOLERANCE:.0%} is allowed; fix max_tokens and the seed, or gate tpot_ms)"
        )
