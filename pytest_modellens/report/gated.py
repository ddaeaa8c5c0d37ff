"""What the gate said of a run, as run.json holds it: for the banner, and case by case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_modellens.gate.run import RunVerdict, run_verdict_of
from pytest_modellens.gate.show import starts_sentence
from pytest_modellens.gate.specs import show_change
from pytest_modellens.gate.verdict import MANY_STARTS
from pytest_modellens.report.columns import METRICS
from pytest_modellens.report.verdict import Verdict
from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_modellens.gate.verdict import MetricVerdict
    from pytest_modellens.report.source import ReportRun

__all__ = ["Changes", "GatedCase", "changes_of", "gate_verdict", "gated_cases"]

_TITLES = {
    "pass": ("good", "No regression against"),
    "improvement": ("good", "Better than"),
    "regression": ("bad", "Regression against"),
    "inconclusive": ("unsure", "It is not decided whether this is worse than"),
    "incomparable": ("bad", "Not comparable with"),
    "no baseline": ("unsure", "Nothing was judged: there is nothing yet in"),
}
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class GatedCase:
    """One case under one limit of the gate, in words."""

    case: str
    metric: str
    limit: str
    verdict: str
    level: str
    """"good", "bad" or "unsure"."""
    change: str
    interval: str
    """Of 90 %; empty without one."""


@dataclass(frozen=True, slots=True)
class Changes:
    """How cases changed against a baseline."""

    baseline: str
    metric: str
    by_case: Mapping[str, tuple[str, str]]
    """By case key: the change, and the change with its 90 % interval."""


def gate_verdict(run: ReportRun, *, name: str = "") -> Verdict | None:
    """Return what the gate said of `run` as a statement of a banner; None where it said nothing.

    Args:
        run: the run.
        name: what to call it, where there are several.
    """
    if "gate" not in run.meta:
        return None
    found = _read(run.meta["gate"])
    begin = f"{name}: " if name else ""
    if found is None:
        return Verdict(
            "unsure", "gate", f"{begin}What the gate said cannot be read", ("It is in run.json, under gate.",)
        )
    level, words = _TITLES[found.name]
    shown = printable(found.baseline)
    against = f"baseline {shown}" if found.n_blocks is None else f"{shown}, side by side"
    return Verdict(level, "gate", f"{begin}{words} {against}", tuple(_sentences(found)))


def changes_of(meta: Mapping[str, Any]) -> Changes | None:
    """Return how each case changed in the first metric that the gate judged; None where run.json says nothing of it."""
    found = _read(meta.get("gate"))
    metrics = () if found is None or found.verdict is None else found.verdict.metrics
    metric = next((one for one in metrics if one.cases), None)
    if found is None or metric is None:
        return None
    name = metric.metric
    by_case = {
        case.case: (
            show_change(name, case.estimate),
            f"{show_change(name, case.estimate)} {_bare(name, case.low)}…{_bare(name, case.high)}",
        )
        for case in metric.cases
    }
    return Changes(printable(found.baseline, 12), _name(name), by_case)


def _bare(metric: str, change: float) -> str:
    return show_change(metric, change).partition(" ")[0]


def gated_cases(run: ReportRun) -> list[GatedCase]:
    """Return every case that the gate judged, or could not judge, those that are worse first."""
    found = _read(run.meta.get("gate"))
    if found is None:
        return []
    rows = [
        GatedCase(printable(key) or "the machine", "", "", "incomparable", "bad", printable("; ".join(why), 400), "")
        for key, why in found.differing.items()
    ]
    for metric in () if found.verdict is None else found.verdict.metrics:
        name, limit = _name(metric.metric), show_change(metric.metric, metric.limit)
        rows += [
            GatedCase(
                printable(case.case),
                name,
                limit,
                case.verdict,
                _TITLES[case.verdict][0],
                show_change(metric.metric, case.estimate),
                _interval(metric.metric, case.low, case.high),
            )
            for case in metric.cases
        ]
    for what, keys in (("not in the baseline", found.missing), ("not run", found.not_run)):
        rows += [GatedCase(printable(key), "", "", what, "unsure", "", "") for key in keys]
    return sorted(rows, key=lambda row: ("bad", "unsure", "good").index(row.level))


def _read(gate: Any) -> RunVerdict | None:
    try:
        found = run_verdict_of(gate)
    except ValueError:
        return None
    metrics = () if found.verdict is None else found.verdict.metrics
    known = {case.verdict for metric in metrics for case in metric.cases} | {found.name} <= _TITLES.keys()
    return found if known else None


def _sentences(found: RunVerdict) -> Iterable[str]:
    for key, why in found.differing.items():
        yield f"{printable(key) or 'The machine'}: {printable('; '.join(why), 400)}."
    if found.verdict is not None:
        for metric in found.verdict.metrics:
            yield from _of_metric(metric)
    if found.missing:
        yield f"Not in the baseline, so not judged: {_listed(found.missing)}."
    if found.not_run:
        yield f"In the baseline, but not run: {_listed(found.not_run)}."
    if found.name == "no baseline":
        yield "Accept a run as baseline with --modellens-update-baseline."
    if found.verdict is None:
        return
    if found.n_blocks is not None:
        yield f"Both servers were measured side by side, in {found.n_blocks} blocks of the same session."
        starts = starts_sentence(found)
        is_seen = found.verdict.calibrated or found.n_restarts + 1 >= MANY_STARTS
        yield f"{starts[0].upper()}{starts[1:]}{'' if is_seen else ' (uncalibrated)'}."
        return
    sessions = f"{found.n_sessions} session{'s' * (found.n_sessions != 1)}"
    yield f"The baseline has {sessions}. {_noise(calibrated=found.verdict.calibrated)}"


def _noise(*, calibrated: bool) -> str:
    if calibrated:
        return "How much this machine differs from session to session was measured (modellens calibrate)."
    return "How much this machine differs from session to session was not measured; 2 % is assumed."


def _of_metric(metric: MetricVerdict) -> Iterable[str]:
    name, limit = _name(metric.metric), show_change(metric.metric, metric.limit)
    reason = printable(metric.reason, 400)
    if metric.estimate is None or metric.low is None or metric.high is None:
        yield f"{name} (limit {limit}): {reason}."
        return
    change = show_change(metric.metric, metric.estimate)
    interval = _interval(metric.metric, metric.low, metric.high)
    yield f"{name} changed by {change} (90 % interval {interval}; limit {limit}): {reason}."
    slow = [case for case in metric.cases if case.verdict == "regression"]
    if slow:
        told = [f"{printable(case.case)} {show_change(metric.metric, case.estimate)}" for case in slow]
        yield f"Alone worse than twice the limit: {_listed(told)}."


def _name(metric: str) -> str:
    field, _, statistic = metric.partition(".")
    label = METRICS[field].label if field in METRICS else field
    return f"{label} {statistic}".strip()


def _interval(metric: str, low: float, high: float) -> str:
    return f"{show_change(metric, low)} to {show_change(metric, high)}"


def _listed(names: Iterable[str]) -> str:
    all_names = [printable(name) for name in names]
    more = f" and {len(all_names) - _SHOWN} more" if len(all_names) > _SHOWN else ""
    return ", ".join(all_names[:_SHOWN]) + more
