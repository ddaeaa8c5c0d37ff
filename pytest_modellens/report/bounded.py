"""What limits of suites and bounds of the gate came to, as run.json holds it: for the banner, and case by case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_modellens.gate.session import case_key
from pytest_modellens.report.verdict import Verdict
from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_modellens.report.source import ReportRun

__all__ = ["BoundedCase", "bounded_cases", "bounds_verdict"]

_LEVELS = {"fail": "bad", "incomparable": "bad", "inconclusive": "unsure", "pass": "good"}
"""Worst first."""
_WORDS = {"fail": "not kept", "incomparable": "not measured", "inconclusive": "not decided", "pass": "kept"}
_SHOWN = 5


class _Found(msgspec.Struct):
    """What `LimitVerdict.to_json` makes."""

    limit: str
    verdict: str
    reason: str
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    missing: int | None = None


class _Bound(_Found, kw_only=True):
    case: str


class _Limit(_Found, kw_only=True):
    suite: str
    case: str
    params: dict[str, Any]
    provider: str


class _Absolute(msgspec.Struct):
    """What `AbsoluteVerdict.to_json` makes."""

    alpha: float
    bounds: list[_Bound]


@dataclass(frozen=True, slots=True)
class BoundedCase:
    """One case under one limit, in words."""

    case: str
    limit: str
    by: str
    """Who asks for it: "suite" or "gate"."""
    verdict: str
    level: str
    """"good", "bad" or "unsure"."""
    found: str
    interval: str
    """Of 90 %; empty without one."""
    n: int
    """Requests with a value."""
    remark: str


def bounds_verdict(run: ReportRun, *, name: str = "") -> Verdict | None:
    """Return what the gate said of its bounds as a statement of a banner; None where it had none.

    Args:
        run: the run.
        name: what to call it, where there are several.
    """
    if "absolute_gate" not in run.meta:
        return None
    begin = f"{name}: " if name else ""
    found = _absolute(run.meta)
    if found is None or not found.bounds:
        title = f"{begin}What the gate said of its bounds cannot be read"
        return Verdict("unsure", "gate", title, ("It is in run.json, under absolute_gate.",))
    counts = {name: sum(one.verdict == name for one in found.bounds) for name in _LEVELS}
    worst = next(name for name in _LEVELS if counts[name])
    by_limit: dict[str, list[_Bound]] = {}
    for one in found.bounds:
        by_limit.setdefault(one.limit, []).append(one)
    return Verdict(
        _LEVELS[worst],
        "gate",
        begin + _title(worst, counts[worst], len(found.bounds)),
        tuple(sentence for limit, cases in by_limit.items() for sentence in _sentences(limit, cases)),
    )


def bounded_cases(run: ReportRun) -> list[BoundedCase]:
    """Return every case under every limit, of its suite and of the gate, the worst first."""
    absolute = _absolute(run.meta)
    bounds = [_row(one.case, "gate", one) for one in (absolute.bounds if absolute else ())]
    limits = [_row(case_key(entry), "suite", one) for entry, one in _limits(run.meta.get("limits"))]
    order = [*_WORDS.values()]
    return sorted([*bounds, *limits], key=lambda row: order.index(row.verdict))


def _absolute(meta: Mapping[str, Any]) -> _Absolute | None:
    try:
        found = msgspec.convert(meta.get("absolute_gate"), _Absolute)
    except msgspec.ValidationError:
        return None
    return found if {one.verdict for one in found.bounds} <= _LEVELS.keys() else None


def _limits(entries: Any) -> Iterable[tuple[Mapping[str, Any], _Limit]]:
    for entry in entries if isinstance(entries, list) else ():
        try:
            found = msgspec.convert(entry, _Limit)
        except msgspec.ValidationError:
            continue
        if found.verdict in _LEVELS:
            yield entry, found


def _title(worst: str, count: int, whole: int) -> str:
    if whole == 1:
        return f"The bound is {_WORDS[worst]}"
    return "Every bound is kept" if worst == "pass" else f"{count} of {whole} bounds are {_WORDS[worst]}"


def _sentences(limit: str, cases: Sequence[_Bound]) -> Iterable[str]:
    counts = {words: sum(one.verdict == verdict for one in cases) for verdict, words in _WORDS.items()}
    told = ", ".join(f"{words} in {count}" for words, count in counts.items() if count)
    yield f"{printable(limit)}: {told} of {len(cases)} {'case' if len(cases) == 1 else 'cases'}."
    wrong = [one for one in cases if _LEVELS[one.verdict] == "bad"]
    for one in wrong[:_SHOWN]:
        yield f"{printable(one.case)}: {printable(one.reason, 400)}."
    if len(wrong) > _SHOWN:
        yield f"So are {len(wrong) - _SHOWN} more."


def _row(case: str, by: str, found: _Found) -> BoundedCase:
    is_share = found.limit.startswith("goodput")
    ends = [_shown(end, is_share=is_share) for end in (found.low, found.high)]
    remark = printable(found.reason, 400) if found.verdict == "incomparable" else ""
    if found.missing:
        remark = f"{found.missing:,} more requests could prove that it is kept"
    return BoundedCase(
        case=printable(case),
        limit=printable(found.limit),
        by=by,
        verdict=_WORDS[found.verdict],
        level=_LEVELS[found.verdict],
        found=_shown(found.estimate, is_share=is_share),
        interval=" to ".join(ends) if found.low is not None or found.high is not None else "",
        n=found.n,
        remark=remark,
    )


def _shown(value: float | None, *, is_share: bool) -> str:
    return "–" if value is None else f"{100 * value:.1f} %" if is_share else f"{value:.4g}"
