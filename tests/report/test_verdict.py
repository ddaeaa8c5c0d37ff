"""What a report says first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.report.banner import banner
from pytest_modellens.report.comparison import comparisons
from pytest_modellens.report.series import cells_of
from pytest_modellens.report.verdict import Verdict, soundness
from tests.report import runs

if TYPE_CHECKING:
    from pytest_modellens.report.source import ReportRun


def verdict(*rows: dict[str, Any], **meta: Any) -> Verdict:
    run = runs.run(list(rows), **meta)
    return soundness(cells_of([run]), cut_off=[] if run.is_finished else [""])


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
        "1 cell: failed requests (b).",
        "1 cell: unexpected answers (c).",
        "1 cell: invalid (d).",
        "Measured: 5 requests in 4 cells.",
    )


def test_warmup_that_failed_is_not_as_bad() -> None:
    assert verdict(*runs.records(2), runs.failure(phase="warmup")).level == "unsure"


def test_run_that_was_cut_off_is_not_called_good() -> None:
    found = verdict(*runs.records(2), ended_at=None)
    assert (found.level, found.title) == ("unsure", "Cut off: 2 requests in 1 cell, none failed")
    assert found.sentences[0].startswith("The run was cut off")


def test_many_flawed_cells_are_counted_and_some_are_named() -> None:
    found = verdict(*(runs.failure(case=f"c{number}") for number in range(8)), runs.record())
    assert found.sentences[0] == "8 cells: failed requests (c0, c1, c2, c3, c4 and 3 more)."


def test_runs_that_were_cut_off_are_named() -> None:
    whole, half = runs.run(None, "20261121T203000Z-a"), runs.run(None, "20261121T203000Z-b", ended_at=None)
    cells = cells_of([whole, half])
    found = banner([whole, half], cells, comparisons(cells))
    assert found[-1].sentences[0].startswith("b was cut off, or still goes on")


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


def test_labels_say_only_what_differs() -> None:
    def labels(*found: ReportRun) -> list[str]:
        return [*dict.fromkeys(cell.series.label for cell in cells_of(found))]

    assert labels(runs.run()) == ["vllm"]
    assert labels(runs.run(runs.records(1), "20261121T203000Z-a"), runs.run(runs.records(1), "20261122T203000Z-b")) == [
        "a",
        "b",
    ]
    assert labels(runs.run(runs.records(1), "20261121T203000Z-a"), runs.run(runs.records(1), "20261122T203000Z-a")) == [
        "a 2026-11-21 20:30",
        "a 2026-11-22 20:30",
    ]
    assert labels(runs.run([runs.record(), runs.record(model="big"), runs.record(provider="openai")])) == [
        "vllm · tiny",
        "vllm · big",
        "openai · tiny",
    ]


def test_cases_of_one_name_say_their_suite() -> None:
    found = cells_of([runs.run([runs.record(), runs.record(suite="suites/smoke.yaml"), runs.record(case="b")])])
    assert [cell.name for cell in found] == ["capital (chat)", "capital (smoke)", "b"]
