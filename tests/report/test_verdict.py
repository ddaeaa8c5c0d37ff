"""What a report says first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.report.series import cells_of
from pytest_modellens.report.verdict import Verdict, comparisons, decisions, soundness
from tests.report import runs

if TYPE_CHECKING:
    from pytest_modellens.report.source import ReportRun


def verdict(*rows: dict[str, Any], **meta: Any) -> Verdict:
    run = runs.run(list(rows), **meta)
    return soundness(cells_of([run]), is_finished=run.is_finished)


def decided(*found: ReportRun) -> list[Verdict]:
    cells = cells_of(found)
    return decisions(comparisons(cells), cells)


def test_good_run_is_good() -> None:
    found = verdict(*runs.records(3), runs.record(case="b"))
    assert (found.level, found.title) == ("good", "All good: 4 requests in 2 cells, none failed")


def test_flawed_cells_are_counted_by_what_is_wrong() -> None:
    found = verdict(
        *runs.records(3),
        runs.failure(case="b"),
        runs.record(case="c", expect_failures=["no 'Paris'"]),
        runs.record(case="d", invalid="cached"),
        runs.record(case="d"),
    )
    assert (found.level, found.title) == ("bad", "3 of 4 cells need a look")
    assert found.sentences == (
        "1 cell: failed requests.",
        "1 cell: unexpected answers.",
        "1 cell: invalid.",
        "Measured: 5 requests in 4 cells.",
    )


def test_warmup_that_failed_is_not_as_bad() -> None:
    assert verdict(*runs.records(2), runs.failure(phase="warmup")).level == "unsure"


def test_run_that_was_cut_off_is_not_called_good() -> None:
    found = verdict(*runs.records(2), ended_at=None)
    assert found.level == "unsure"
    assert found.sentences[0].startswith("The run was cut off")


@pytest.mark.parametrize(
    ("rows", "title"),
    [([], "Nothing was measured"), ([runs.failure()], "No request brought a valid measurement")],
)
def test_run_without_measurements_says_so(rows: list[dict[str, Any]], title: str) -> None:
    found = verdict(*rows)
    assert (found.level, found.title) == ("bad", title)


@pytest.mark.parametrize(
    ("meta", "state"),
    [
        ({"cells": [{**runs.load(4), "params": {}, "health": {"client_bound": True}}]}, "client-bound"),
        ({"failed": [{**runs.KEY, "why": "limit ttft_ms.p95 < 1: not kept"}]}, "limit not kept"),
    ],
)
def test_cell_has_the_state_that_the_run_gives_it(meta: dict[str, Any], state: str) -> None:
    (cell,) = cells_of([runs.run(**meta)])
    assert (cell.state, cell.level) == (state, "bad")


def test_faster_run_is_the_one_to_deploy() -> None:
    (found,) = decided(runs.run(runs.records(12), "base"), runs.run(runs.records(12, speed=1.5), "new"))
    assert (found.level, found.title) == ("good", "new is faster than base")
    assert found.sentences[0].startswith("new generates 1.50 times the tokens per second of base (95 %: 1.4")
    assert found.sentences[1].startswith("new's first tokens come after 0.67 times the time of base (95 %: 0.6")
    assert found.sentences[-1] == "Of these two, new is the one to deploy."


def test_slower_run_is_not_the_one_to_deploy() -> None:
    (found,) = decided(runs.run(runs.records(12), "base"), runs.run(runs.records(12, speed=0.7), "new"))
    assert (found.level, found.title) == ("good", "base is faster than new")


def test_same_run_twice_is_no_difference() -> None:
    (found,) = decided(runs.run(name := runs.records(30), "a"), runs.run(name, "b"))
    assert (found.level, found.title) == ("unsure", "No clear difference between a and b")
    assert all("may be chance" in sentence for sentence in found.sentences)


def test_faster_tokens_and_later_first_ones_are_a_trade_off() -> None:
    base = runs.records(12)
    other = [row | {"tokens_per_second": 2 * row["tokens_per_second"], "ttft_ms": 3 * row["ttft_ms"]} for row in base]
    (found,) = decided(runs.run(base, "base"), runs.run(other, "new"))
    assert (found.level, found.title) == ("unsure", "A trade-off: new generates faster, base answers sooner")


def test_failures_come_before_speed() -> None:
    other = [*runs.records(12, speed=2.0), runs.failure(13), runs.failure(14)]
    (found,) = decided(runs.run(runs.records(12), "base"), runs.run(other, "new"))
    assert found.level == "bad"
    assert "With new, 2 of 14 requests failed." in found.sentences


def test_failures_in_cases_that_only_one_has_do_not_count() -> None:
    other = [*runs.records(12, speed=1.5), runs.failure(case="other")]
    (found,) = decided(runs.run(runs.records(12), "base"), runs.run(other, "new"))
    assert found.title == "new is faster than base"


def test_too_few_requests_are_said() -> None:
    (found,) = decided(runs.run(runs.records(2), "base"), runs.run(runs.records(2, speed=3.0), "new"))
    assert (found.level, found.title) == ("unsure", "Too few requests to tell base from new")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"case_hash": "other"}, "they were asked different things (the suite changed)"),
        ({"metric_definitions": 2}, "their metrics are defined differently"),
        ({"tokens_source": "events"}, "their tokens were counted differently"),
        ({"tokens_per_second_mode": "end_to_end"}, "one was streamed and the other was not"),
        ({"tokens_per_second": None}, "no request brought tokens/s"),
        ({"case": "other"}, "only one of them has it"),
    ],
)
def test_what_cannot_be_compared_is_left_out_with_the_reason(change: dict[str, Any], why: str) -> None:
    rows = [row | change for row in runs.records(8)]
    found = comparisons(cells_of([runs.run(runs.records(8), "base"), runs.run(rows, "new")]))
    speed = next(one for one in found if one.metric == "tokens_per_second")
    assert speed.ratios == {}
    assert set(speed.left_out.values()) == {why}


def test_runs_of_different_suites_cannot_be_compared() -> None:
    (found,) = decided(runs.run(runs.records(8), "base"), runs.run(runs.records(8, suite="b.yaml"), "new"))
    assert (found.level, found.title) == ("unsure", "base and new cannot be compared")
    assert "capital (chat): only one of them has it." in found.sentences


def test_providers_of_one_run_are_compared_without_what_sessions_differ_by() -> None:
    rows = [*runs.records(12), *runs.records(12, provider="llamacpp")]
    (one,) = [one for one in comparisons(cells_of([runs.run(rows)])) if one.metric == "ttft_ms"]
    (two,) = [
        one
        for one in comparisons(cells_of([runs.run(rows[:12], "a"), runs.run(rows[:12], "b")]))
        if one.metric == "ttft_ms"
    ]
    assert (one.first.label, one.second.label) == ("vllm", "llamacpp")
    assert one.overall is not None
    assert two.overall is not None
    assert one.overall.high < two.overall.high  # type: ignore[operator]


def test_labels_say_only_what_differs() -> None:
    def labels(*found: ReportRun) -> list[str]:
        return [*dict.fromkeys(cell.series.label for cell in cells_of(found))]

    assert labels(runs.run()) == ["vllm"]
    assert labels(runs.run(runs.records(1), "20261121T203000Z-a"), runs.run(runs.records(1), "20261122T203000Z-b")) == [
        "a",
        "b",
    ]
    assert labels(runs.run(runs.records(1), "20261121T203000Z-a"), runs.run(runs.records(1), "20261122T203000Z-a")) == [
        "20261121T203000Z-a",
        "20261122T203000Z-a",
    ]
    assert labels(runs.run([runs.record(), runs.record(model="big"), runs.record(provider="openai")])) == [
        "vllm · tiny",
        "vllm · big",
        "openai · tiny",
    ]


def test_cases_of_one_name_say_their_suite() -> None:
    found = cells_of([runs.run([runs.record(), runs.record(suite="suites/smoke.yaml"), runs.record(case="b")])])
    assert [cell.name for cell in found] == ["capital (chat)", "capital (smoke)", "b"]
