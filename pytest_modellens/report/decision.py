"""Which of two configurations to deploy, by how much it is better, and how sure that is, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_modellens.gate.calibration import Calibration
from pytest_modellens.report.columns import METRICS
from pytest_modellens.report.compare import LEVEL, NEAR
from pytest_modellens.report.comparison import by_series
from pytest_modellens.report.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_modellens.report.comparison import Comparison
    from pytest_modellens.report.series import CellOf

__all__ = ["decide", "decisions"]

_SHOWN = 5
_MANY = 2.0
"""Ratios from here on are told as "so many times"."""


def decisions(found: Sequence[Comparison], cells: Sequence[CellOf]) -> list[Verdict]:
    """Return what `found`, the comparisons of `cells`, say of every series beside the first."""
    first, *others = by_series(cells) or [[]]
    return [decide([one for one in found if one.second is other[0].series], first, other) for other in others]


def decide(comparisons: Sequence[Comparison], first: Sequence[CellOf], second: Sequence[CellOf]) -> Verdict:
    """Return which of the two is better, and how sure that is."""
    a, b = comparisons[0].first.label, comparisons[0].second.label
    known = [one for one in comparisons if one.overall is not None]
    sure = _sure(known)
    sentences = [_told(one, is_sure=one.metric in sure) for one in known]
    shared = {cell.place for cell in first} & {cell.place for cell in second}
    flaws = _flaws(*([cell for cell in cells if cell.place in shared] for cells in (first, second)))
    if flaws and (known or shared):
        title = "No fair comparison before the failures are understood"
        return Verdict("bad", "comparison", title, (*sentences, *flaws))
    if not known:
        reasons = [why for one in comparisons for why in one.left_out.values()]
        few = reasons and all(why.startswith("fewer than") for why in reasons)
        title = f"Too few requests to tell {a} from {b}" if few else f"{a} and {b} cannot be compared"
        return Verdict("unsure", "comparison", title, tuple(_reasons(comparisons)))
    signs = {one.metric: _sign(one) for one in known if one.metric in sure}
    if not signs:
        return _undecided(a, b, known, sentences)
    if {1, -1} <= {*signs.values()}:
        quick, early = (a, b) if signs["tokens_per_second"] < 0 else (b, a)
        sentences.append(f"Long answers end sooner with {quick}, all answers begin sooner with {early}.")
        title = f"A trade-off: {quick} generates faster, {early} answers sooner"
        return Verdict("unsure", "comparison", title, tuple(sentences))
    better, other = (b, a) if 1 in signs.values() else (a, b)
    sentences.insert(0, f"Of these two, {better} is the one to deploy.")
    sentences += _against(known, sign=1 if better == b else -1, better=better)
    sentences.append(_how_sure(known, sure))
    little = all(one.overall is not None and one.overall.is_near for one in known)
    by = f", by less than {100 * NEAR:.0f} %" if little else ""
    return Verdict("good", "comparison", f"{better} is faster than {other}{by}", tuple(sentences))


def _undecided(a: str, b: str, known: Sequence[Comparison], sentences: list[str]) -> Verdict:
    found = [one.overall for one in known if one.overall is not None]
    if all(one.is_near for one in found):
        sentences.append(f"Either can be deployed: a difference of {100 * NEAR:.0f} % or more is excluded.")
        return Verdict("good", "comparison", f"{a} and {b} are equally fast", tuple(sentences))
    visible = _percent(max(one.resolution for one in found))
    if known[0].is_one_session:
        sentences.append(
            f"As many requests as these tell a difference of {visible} for sure; more requests tell smaller ones."
        )
    else:
        sentences.append(
            f"Two single runs tell a difference of {visible} for sure: sessions on an unchanged server differ, too. "
            "Measured in one run, or against a baseline of several sessions, smaller ones show."
        )
    return Verdict("unsure", "comparison", f"No clear difference between {a} and {b}", tuple(sentences))


def _sure(known: Sequence[Comparison]) -> dict[str, float]:
    """Return the metrics that differ beyond chance, and the probability of that by chance; all share one error rate."""
    from pytest_modellens.gate.levels import holm

    p = [one.overall.p for one in known if one.overall is not None]
    adjusted = holm(p) if p else ()
    return {one.metric: float(value) for one, value in zip(known, adjusted, strict=True) if value <= LEVEL}


def _sign(comparison: Comparison) -> int:
    """Return 1 where the second is better, -1 where it is worse."""
    assert comparison.overall is not None
    is_more = comparison.overall.value > 1
    return 1 if is_more == (METRICS[comparison.metric].better == "higher") else -1


def _told(comparison: Comparison, *, is_sure: bool) -> str:
    whole = comparison.overall
    assert whole is not None
    a, b = comparison.first.label, comparison.second.label
    ends, n = (whole.low, whole.high), len(comparison.ratios)
    if comparison.metric == "ttft_ms":
        words = ("later", "sooner")
        many = f"The first token of {b} takes {whole.value:.1f} times as long as that of {a}"
        few = f"The first token of {b} comes {_change(whole.value, words)} than that of {a}"
    else:
        words = ("more", "fewer")
        many = f"{b} generates {whole.value:.1f} times as many tokens per second as {a}"
        few = f"{b} generates {_change(whole.value, words)} tokens per second than {a}"
    is_many = whole.value >= _MANY
    interval = f"{ends[0]:.1f} to {ends[1]:.1f} times" if is_many else _between(ends, words)
    cases = f"{n} {'case' if n == 1 else 'cases'}"
    clear = "This is clear" if is_sure else "This may be chance"
    return f"{many if is_many else few} (95 % interval: {interval}; {cases}). {clear}."


def _change(ratio: float, words: tuple[str, str]) -> str:
    """Return a ratio as people say it: "50 % more", "3.1 % sooner"."""
    return f"{_percent(abs(ratio - 1))} {words[0] if ratio >= 1 else words[1]}"


def _between(ends: tuple[float, float], words: tuple[str, str]) -> str:
    if (ends[0] >= 1) != (ends[1] >= 1):
        return f"{_change(ends[0], words)} to {_change(ends[1], words)}"
    near, far = sorted(ends, key=lambda end: abs(end - 1))
    return f"{_percent(abs(near - 1))} to {_change(far, words)}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 0.0995 else f"{100 * share:.0f} %"


def _how_sure(known: Sequence[Comparison], sure: dict[str, float]) -> str:
    p = min(sure.values())
    pairs = f"{float(f'{1 / p:.2g}'):,.0f}" if p > 1e-4 else "more than 10,000"
    if known[0].is_one_session:
        return f"How sure that is: one of {pairs} pairs of equally fast servers would look this different by chance."
    return (
        f"How sure that is: one of {pairs} pairs of runs of an unchanged server would look this different by chance, "
        f"if sessions on this machine differ by {_sessions(known)}."
    )


def _sessions(known: Sequence[Comparison]) -> str:
    """Return by how much sessions differ, and whether anybody looked."""
    found = [one.known.session_sd for one in known if one.known is not None]
    if len(found) < len(known):
        return f"{100 * Calibration().session_sd:.0f} %, which is assumed (modellens calibrate measures it)"
    return f"{_percent(max(found))}, as they did when this machine was calibrated"


def _against(known: Sequence[Comparison], *, sign: int, better: str) -> list[str]:
    """Return where single cases say the opposite, beyond chance."""
    from pytest_modellens.gate.levels import holm

    found: dict[str, list[str]] = {}
    for one in known:
        p = holm([ratio.p for ratio in one.ratios.values()])
        for (name, ratio), value in zip(one.ratios.items(), p, strict=True):
            is_more = (ratio.value > 1) == (METRICS[one.metric].better == "higher")
            if value <= LEVEL and (1 if is_more else -1) != sign:
                found.setdefault(name, []).append(METRICS[one.metric].label)
    told = [f"{name} ({', '.join(labels)})" for name, labels in found.items()]
    more = f" and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    return [f"{better} is slower in {', '.join(told[:_SHOWN])}{more}."] if told else []


def _flaws(first: Sequence[CellOf], second: Sequence[CellOf]) -> list[str]:
    found = []
    for cells in (first, second):
        sent = sum(cell.summary.n for cell in cells)
        for count, what in (
            (sum(cell.summary.n_errors for cell in cells), "requests failed"),
            (sum(cell.summary.n_expect_failed for cell in cells), "answers were not as expected"),
            (sum(cell.summary.n_invalid for cell in cells), "requests are no valid measurements"),
        ):
            if count:
                found.append(f"With {cells[0].series.label}, {count:,} of {sent:,} {what}.")
    return found


def _reasons(comparisons: Sequence[Comparison]) -> list[str]:
    reasons = dict.fromkeys(f"{name}: {why}." for one in comparisons for name, why in one.left_out.items())
    return [*reasons][:_SHOWN]
