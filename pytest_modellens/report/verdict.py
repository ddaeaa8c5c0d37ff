"""What a report says first: whether the run can be believed, and which of two configurations is better by how much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_modellens.report.columns import METRICS
from pytest_modellens.report.compare import SESSION_SD, START_SD, Ratio, overall, ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_modellens.report.series import CellOf, SeriesOf

__all__ = ["COMPARED", "Comparison", "Verdict", "compare", "comparisons", "decide", "decisions", "soundness"]

COMPARED = ("tokens_per_second", "ttft_ms")
"""The metrics that two configurations are compared by."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One statement of a banner. The gate's verdicts are shown as these too."""

    level: str
    """"good", "bad", or "unsure"."""
    topic: str
    """What it is about: "measurement", "comparison", "gate"."""
    title: str
    sentences: tuple[str, ...] = ()


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


def soundness(cells: Sequence[CellOf], *, is_finished: bool) -> Verdict:
    """Return whether everything that was to be measured was, in words."""
    flawed = [cell for cell in cells if cell.level != "good"]
    sentences = []
    if not is_finished:
        sentences.append("The run was cut off, or still goes on: what it had not measured by then is not here.")
    if not cells:
        return Verdict("bad", "measurement", "Nothing was measured", tuple(sentences))
    counts = {state: sum(cell.state == state for cell in flawed) for state in dict.fromkeys(c.state for c in flawed)}
    sentences += [f"{count} {'cell' if count == 1 else 'cells'}: {state}." for state, count in counts.items()]
    if not any(cell.summary.n_averaged for cell in cells):
        return Verdict("bad", "measurement", "No request brought a valid measurement", tuple(sentences))
    whole = sum(cell.summary.n_averaged for cell in cells)
    over = (
        f"{whole:,} {'request' if whole == 1 else 'requests'} in {len(cells)} {'cell' if len(cells) == 1 else 'cells'}"
    )
    if flawed:
        level = "bad" if any(cell.level == "bad" for cell in flawed) else "unsure"
        return Verdict(
            level, "measurement", f"{len(flawed)} of {len(cells)} cells need a look", (*sentences, f"Measured: {over}.")
        )
    return Verdict(
        "good" if is_finished else "unsure", "measurement", f"All good: {over}, none failed", tuple(sentences)
    )


def comparisons(cells: Sequence[CellOf]) -> list[Comparison]:
    """Return each metric of every series beside the first; empty when there is only one."""
    first, *others = _by_series(cells) or [[]]
    return [compare(metric, first, other) for other in others for metric in COMPARED]


def decisions(found: Sequence[Comparison], cells: Sequence[CellOf]) -> list[Verdict]:
    """Return what `found`, the comparisons of `cells`, say of every series beside the first."""
    first, *others = _by_series(cells) or [[]]
    return [decide([one for one in found if one.second is other[0].series], first, other) for other in others]


def _by_series(cells: Sequence[CellOf]) -> list[list[CellOf]]:
    by_number: dict[int, list[CellOf]] = {}
    for cell in cells:
        by_number.setdefault(cell.series.number, []).append(cell)
    return [by_number[number] for number in sorted(by_number)]


def compare(metric: str, first: Sequence[CellOf], second: Sequence[CellOf]) -> Comparison:
    """Return how the cells of one series are to those of another, in the cases that both have."""
    by_name = {cell.place: cell for cell in first}
    one, other = first[0].series, second[0].series
    sd = START_SD if one.run == other.run else (SESSION_SD**2 + START_SD**2) ** 0.5
    ratios: dict[str, Ratio] = {}
    left_out: dict[str, str] = {}
    for cell in second:
        base = by_name.get(cell.place)
        why = "only one of them has it" if base is None else _incomparable(base, cell, metric)
        if base is None or why is not None:
            left_out[cell.name] = why or ""
            continue
        found = ratio(base.data.columns[metric], cell.data.columns[metric], sd=sd)
        if found is None:
            left_out[cell.name] = f"no request brought {METRICS[metric].label}"
        else:
            ratios[cell.name] = found
    present = {cell.place for cell in second}
    left_out |= {cell.name: "only one of them has it" for cell in first if cell.place not in present}
    return Comparison(metric, one, other, ratios, overall([*ratios.values()], sd=sd), left_out)


def decide(comparisons: Sequence[Comparison], first: Sequence[CellOf], second: Sequence[CellOf]) -> Verdict:
    """Return which of the two is better, and how sure that is."""
    a, b = comparisons[0].first.label, comparisons[0].second.label
    sentences = [_told(one) for one in comparisons if one.overall is not None]
    shared = {cell.place for cell in first} & {cell.place for cell in second}
    flaws = _flaws(*([cell for cell in cells if cell.place in shared] for cells in (first, second)))
    sentences += flaws
    signs = {one.metric: _sign(one) for one in comparisons if one.overall is not None}
    if not signs:
        return Verdict("unsure", "comparison", f"{a} and {b} cannot be compared", tuple(_reasons(comparisons)))
    if flaws:
        return Verdict("bad", "comparison", "No fair comparison before the failures are understood", tuple(sentences))
    if any(one.overall is not None and one.overall.low is None for one in comparisons):
        sentences.append("At least four requests of each in one case are needed to say how sure that is.")
        return Verdict("unsure", "comparison", f"Too few requests to tell {a} from {b}", tuple(sentences))
    if set(signs.values()) == {0}:
        return Verdict("unsure", "comparison", f"No clear difference between {a} and {b}", tuple(sentences))
    if {1, -1} <= set(signs.values()):
        quick, early = (a, b) if signs["tokens_per_second"] < 0 else (b, a)
        sentences.append(f"Long answers end sooner with {quick}, all answers begin sooner with {early}.")
        return Verdict(
            "unsure", "comparison", f"A trade-off: {quick} generates faster, {early} answers sooner", tuple(sentences)
        )
    better, other = (b, a) if 1 in signs.values() else (a, b)
    sentences.append(f"Of these two, {better} is the one to deploy.")
    return Verdict("good", "comparison", f"{better} is faster than {other}", tuple(sentences))


def _sign(comparison: Comparison) -> int:
    """Return 1 where the second is better, -1 where it is worse, 0 where nobody can tell."""
    whole = comparison.overall
    if whole is None or not whole.is_different:
        return 0
    is_more = whole.value > 1
    return 1 if is_more == (METRICS[comparison.metric].better == "higher") else -1


def _told(comparison: Comparison) -> str:
    whole = comparison.overall
    assert whole is not None
    bounds = f" (95 %: {whole.low:.2f} to {whole.high:.2f})" if whole.low is not None else ""
    sure = sum(one.low is not None for one in comparison.ratios.values())
    n = sure or len(comparison.ratios)
    what = "first tokens come after" if comparison.metric == "ttft_ms" else "generates"
    of = "the time of" if comparison.metric == "ttft_ms" else "the tokens per second of"
    subject = f"{comparison.second.label}'s" if comparison.metric == "ttft_ms" else comparison.second.label
    clear = "" if whole.low is None else ", which is clear" if whole.is_different else ", which may be chance"
    cases = f"{n} {'case' if n == 1 else 'cases'}"
    return f"{subject} {what} {whole.value:.2f} times {of} {comparison.first.label}{bounds} over {cases}{clear}."


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
    return None


def _reasons(comparisons: Sequence[Comparison]) -> list[str]:
    reasons = dict.fromkeys(f"{name}: {why}." for one in comparisons for name, why in one.left_out.items())
    return [*reasons][:5]
