"""What became of limits and bounds reaches every report."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_modellens.gate.absolute import judge_absolute
from pytest_modellens.gate.bounds import parse_bound
from pytest_modellens.gate.session import session_of
from pytest_modellens.report.banner import banner
from pytest_modellens.report.bounded import bounded_cases, bounds_verdict
from pytest_modellens.report.comparison import comparisons
from pytest_modellens.report.outline import markdown, summary_json
from pytest_modellens.report.page import page
from pytest_modellens.report.series import cells_of
from tests.report import runs

SLO = {"slo_met": True}
LIMIT = {
    "limit": "ttft_ms.p95 < 500",
    "verdict": "inconclusive",
    "reason": "not decided (it is 118)",
    "estimate": 118.0,
    "low": 109.0,
    "high": None,
    "n": 8,
    "missing": 51,
}


def judged(rows: list[dict[str, Any]], *bounds: str) -> dict[str, Any]:
    """Return what run.json holds of bounds on the records `rows`."""
    found = judge_absolute(session_of("run", runs.META, rows), [parse_bound(text) for text in bounds])
    plain: dict[str, Any] = json.loads(json.dumps(found.to_json()))
    return plain


ROWS = [*runs.records(20), *runs.records(20, case="slow", speed=0.3)]
SPEED = "tokens_per_second:>=60"
GATES = {
    "kept": (judged(ROWS, "tokens_per_second:>=5"), "good", "Every bound is kept"),
    "the only one kept": (judged(runs.records(20), SPEED), "good", "The bound is kept"),
    "broken": (judged(ROWS, SPEED, "tokens_per_second:>=5"), "bad", "1 of 4 bounds are not kept"),
    "not decided": (judged(ROWS, "ttft_ms.p95:<=500"), "unsure", "2 of 2 bounds are not decided"),
    "no goodput": (judged(runs.records(8), "goodput:>=90%"), "bad", "The bound is not measured"),
}


@pytest.mark.parametrize("name", GATES)
def test_verdict_on_bounds_is_in_every_report(name: str) -> None:
    found, level, title = GATES[name]
    run = runs.run(ROWS, absolute_gate=found)
    shown = bounds_verdict(run)
    assert shown is not None
    assert (shown.level, shown.topic, shown.title) == (level, "gate", title)
    html = page([run])
    assert html.index(title) < html.index("All good: 40 requests")
    assert title in markdown([run])
    out = summary_json([run])
    assert out["verdicts"][0] == {"topic": "gate", "level": level, "title": title, "sentences": [*shown.sentences]}
    assert out["absolute_gate"] == found


def test_bound_is_told_case_by_case_the_broken_ones_first() -> None:
    found, *_ = GATES["broken"]
    run = runs.run(ROWS, absolute_gate=found)
    shown = bounds_verdict(run)
    assert shown is not None
    first, wrong, second = shown.sentences
    assert first == "tokens_per_second >= 60: not kept in 1, kept in 1 of 2 cases."
    assert wrong.startswith("suites/chat.yaml::slow (vllm): not kept (it is 28")
    assert second == "tokens_per_second >= 5: kept in 2 of 2 cases."
    rows = bounded_cases(run)
    assert [row.verdict for row in rows] == ["not kept", "kept", "kept", "kept"]
    low, _, high = rows[0].interval.partition(" to ")
    assert float(low) < float(rows[0].found) < float(high) < 60
    html = page([run])
    assert '<tr class="bad"><th scope="row">slow</th>' in html
    assert all(row.interval in html for row in rows)


def test_many_broken_bounds_are_counted() -> None:
    rows = [row for number in range(8) for row in runs.records(9, case=f"c{number}", speed=0.1)]
    shown = bounds_verdict(runs.run(rows, absolute_gate=judged(rows, SPEED)))
    assert shown is not None
    assert shown.sentences[-1] == "So are 3 more."


def test_share_is_shown_in_per_cent() -> None:
    rows = runs.records(40, **SLO)
    (row,) = bounded_cases(runs.run(rows, absolute_gate=judged(rows, "goodput:>=90%")))
    assert (row.limit, row.found, row.n) == ("goodput >= 90 %", "100.0 %", 40)
    assert row.interval.endswith(" to 100.0 %")


def test_limit_of_a_suite_stands_beside_the_bounds() -> None:
    found, *_ = GATES["broken"]
    run = runs.run(ROWS, absolute_gate=found, limits=[{**runs.KEY, **LIMIT}])
    row = next(row for row in bounded_cases(run) if row.by == "suite")
    assert (row.case, row.verdict, row.found, row.interval) == (
        "suites/chat.yaml::capital (vllm)", "not decided", "118", "109 to –")  # fmt: skip
    assert row.remark == "51 more requests could prove that it is kept"
    assert row.remark in page([run])
    assert [row.by for row in bounded_cases(runs.run(ROWS, limits=[{**runs.KEY, **LIMIT}]))] == ["suite"]


def test_case_that_nothing_was_measured_of_says_why() -> None:
    limit = LIMIT | {
        "verdict": "incomparable",
        "reason": "cannot be judged (no request brought ttft_ms)",
        "missing": None,
    }
    limit |= {"estimate": None, "low": None, "n": 0}
    (row,) = bounded_cases(runs.run(limits=[{**runs.KEY, **limit}]))
    assert (row.verdict, row.found, row.interval) == ("not measured", "–", "")
    assert row.remark == "cannot be judged (no request brought ttft_ms)"


def test_run_without_limits_says_nothing_of_any() -> None:
    run = runs.run(limits=[])
    assert bounds_verdict(run) is None
    assert bounded_cases(run) == []
    assert 'id="bounds-' not in page([run])


@pytest.mark.parametrize(
    "damaged",
    [7, None, {}, {"alpha": 0.01, "bounds": []}, {"alpha": 0.01, "bounds": [{"case": "a"}]},
     {"alpha": 0.01, "bounds": [{**LIMIT, "case": "a", "verdict": "splendid"}]}],
)  # fmt: skip
def test_damaged_bounds_are_said_to_be_unreadable(damaged: Any) -> None:
    run = runs.run(absolute_gate=damaged, limits=[7, {**runs.KEY}, {**runs.KEY, **LIMIT, "verdict": "splendid"}])
    shown = bounds_verdict(run)
    assert shown is not None
    assert (shown.level, shown.title) == ("unsure", "What the gate said of its bounds cannot be read")
    assert bounded_cases(run) == []
    assert "splendid" not in page([run])


def test_bounds_of_several_runs_name_them() -> None:
    both = [runs.run(ROWS, f"20261121T203000Z-{name}", absolute_gate=GATES[name][0]) for name in ("kept", "broken")]
    cells = cells_of(both)
    titles = [one.title for one in banner(both, cells, comparisons(cells))]
    assert titles[:2] == ["broken: 1 of 4 bounds are not kept", "kept: Every bound is kept"]
    html = page(both)
    assert ">Limits, kept</h2>" in html
    assert ">Limits, broken</h2>" in html


def test_cases_of_several_providers_are_told_apart() -> None:
    rows = [*runs.records(9), *runs.records(9, provider="sglang")]
    html = page([runs.run(rows, absolute_gate=judged(rows, SPEED))])
    assert '<th scope="row">capital · sglang</th>' in html
    assert '<th scope="row">capital · vllm</th>' in html


def test_hostile_names_in_bounds_are_inert() -> None:
    bounds = [{**LIMIT, "case": text, "limit": text, "reason": text, "verdict": "fail"} for text in runs.HOSTILE]
    limits = [{**runs.KEY, **LIMIT, "case": text, "limit": text} for text in runs.HOSTILE]
    run = runs.run(absolute_gate={"alpha": 0.01, "bounds": bounds}, limits=limits)
    html, shown = page([run]), markdown([run])
    assert "<script>attacked" not in html
    assert "<img" not in html
    assert not runs.unseen(html)
    assert not runs.unseen(shown)
    assert "https://" not in shown
