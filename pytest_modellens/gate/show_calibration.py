"""A calibration as a table for terminals."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_modellens.gate.calibrations import MachineCalibration, StoredEstimate

__all__ = ["calibration_lines"]

_SHORT_H = 12.0


def calibration_lines(found: MachineCalibration) -> list[str]:
    """Return what was found, a line each, of at most 80 columns."""
    starts = sum(map(len, found.sessions))
    span = "" if found.span_h is None else f" within {found.span_h:g} h"
    lines = [f"calibration from {len(found.sessions)} sessions, {starts} runs and {found.requests:,} requests{span}"]
    rows = [("", "sessions differ by", "server starts by", "correlation")]
    rows += [
        (name, _percent(one.session_sd), _percent(one.start_sd), _number(one.rho))
        for name, one in found.metrics.items()
    ]
    widths = [max(len(row[at]) for row in rows) for at in range(4)]
    lines += ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.append("seen (95 % interval) → what the gate uses, drawn a little towards 2 % and 0.5 %")
    if any(one.start_sd.seen is None for one in found.metrics.values()):
        lines.append("one server start a session: how much these differ is not seen, 0.5 % is taken")
    if found.span_h is not None and found.span_h < _SHORT_H:
        lines.append("sessions of one day differ less than those of several (--from: earlier runs)")
    return lines


def _percent(one: StoredEstimate) -> str:
    if one.seen is None or one.low is None or one.high is None:
        return f"– → {100 * one.used:.2g} %"
    return f"{100 * one.seen:.2g} ({100 * one.low:.2g}–{100 * one.high:.2g}) → {100 * one.used:.2g} %"


def _number(one: StoredEstimate) -> str:
    return f"{one.used:.2f} ({one.low:.2f}–{one.high:.2f})"
