"""Verdicts on bounds in words, for terminals and failures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_modellens.gate.show import wrapped
from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_modellens.gate.absolute import AbsoluteVerdict, CaseBound

__all__ = ["bound_lines"]

_SHOWN = 10
_ORDER = ("fail", "incomparable", "inconclusive", "pass")


def bound_lines(found: AbsoluteVerdict, *, width: int = 80) -> list[str]:
    """Return the verdict and what it rests on, a line each, of at most `width` columns where words allow."""
    by_limit: dict[str, list[CaseBound]] = {}
    for one in found.bounds:
        by_limit.setdefault(one.found.limit, []).append(one)
    lines = [f"absolute gate: {found.name}"]
    for limit, cases in by_limit.items():
        lines += _of_limit(limit, cases)
    return [part for line in lines for part in wrapped(line, width)]


def _of_limit(limit: str, cases: Sequence[CaseBound]) -> list[str]:
    counts = {name: sum(one.found.verdict == name for one in cases) for name in _ORDER}
    worst = next(name for name in _ORDER if counts[name])
    kept = f" in {counts['pass']} of {len(cases)} case{'s' * (len(cases) != 1)}"
    lines = [f"{limit}: {worst}{kept if worst == 'pass' else ''}"]
    ranked = sorted(cases, key=lambda one: _ORDER.index(one.found.verdict))
    shown = [one for one in ranked if one.found.verdict != "pass" or len(cases) == 1]
    lines += [f"  {printable(one.case)}: {printable(one.found.reason, limit=500)}" for one in shown[:_SHOWN]]
    if len(shown) > _SHOWN:
        lines.append(f"  and {len(shown) - _SHOWN} more")
    if counts["pass"] and worst != "pass":
        lines.append(f"  kept{kept}")
    return lines
