"""What the counters of a server say of a cell, and when they may say it."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_modellens.record import Record
from pytest_modellens.serverside import Judgement, judge


def record(**changes: Any) -> Record:
    fields: dict[str, Any] = {
        "suite": "s.yaml",
        "case": "a",
        "params": {},
        "provider": "vllm",
        "model": "m",
        "round": 0,
        "started_at": "2026-11-21T20:30:00+00:00",
        "ok": True,
        "prompt_tokens": 50,
        "completion_tokens": 100,
        "tokens_source": "usage",
    }
    return Record(**fields | changes)


def counters(**changes: Any) -> dict[str, Any]:
    """Return what a server counted for ten records."""
    return {"scrapes": 2, "prompt_tokens": 500, "cached_tokens": 0, "generation_tokens": 1000, "note": None} | changes


def judged(cache: str = "any", *, of: dict[str, Any] | None = None, **changes: Any) -> Judgement:
    records = [record(phase="warmup", **changes), *(record(round=n, **changes) for n in range(9))]
    return judge(records, counters() if of is None else of, cache=cache)


def test_counts_of_the_client_stand_beside_those_of_the_server() -> None:
    got = judged()
    assert got.server == counters() | {
        "client_prompt_tokens": 500,
        "client_generation_tokens": 1000,
        "cached_tokens_by": "counters",
    }
    assert (got.degraded, {one.invalid for one in got.records}) == (None, {None})


@pytest.mark.parametrize(
    "changes", [{"completion_tokens": None}, {"tokens_source": "events"}, {"ok": False, "error": "gone"}]
)
def test_counts_of_the_client_that_are_not_all_known_are_none(changes: dict[str, Any]) -> None:
    got = judge([record(), record(**changes)], counters(), cache="any")
    assert got.server["client_generation_tokens"] is None
    assert got.degraded is None


@pytest.mark.parametrize(
    ("written", "shared"), [(1000, False), (1016, False), (1017, True), (990, False), (500, False)]
)
def test_server_that_writes_more_than_the_cell_asked_for_is_shared(written: int, shared: bool) -> None:
    got = judged(of=counters(generation_tokens=written))
    if shared:
        assert got.degraded == "server shared: it wrote 17 more tokens than the 1000 of this cell"
    else:
        assert got.degraded is None


def test_nothing_is_said_without_metrics_and_without_a_wish() -> None:
    got = judged(of={})
    assert (got.server, got.degraded) == ({}, None)


@pytest.mark.parametrize("cache", ["cold", "warm"])
@pytest.mark.parametrize(
    ("of", "cached", "by"),
    [
        ({}, None, "nothing"),
        ({}, 7, "usage"),
        (counters(), 7, "usage"),
        (counters(cached_tokens=None), None, "nothing"),
        (counters(cached_tokens=7), None, "counters"),
        (counters(generation_tokens=5000), None, "nothing"),
        (counters(generation_tokens=500), None, "nothing"),
    ],
)
def test_it_is_said_what_tells_the_cached_tokens(cache: str, of: dict[str, Any], cached: int | None, by: str) -> None:
    got = judged(cache, of=of, cached_tokens=cached)
    assert (got.server["cached_tokens_by"], got.server["cache"]) == (by, cache)


def test_one_measured_request_without_a_count_leaves_it_to_the_counters() -> None:
    records = [record(cached_tokens=0), record(cached_tokens=None)]
    of = counters(prompt_tokens=100, generation_tokens=200, cached_tokens=3)
    assert judge(records, of, cache="cold").server["cached_tokens_by"] == "counters"


def test_cold_cell_whose_server_counted_cached_tokens_is_invalid() -> None:
    got = judged("cold", of=counters(cached_tokens=32))
    (reason,) = {one.invalid for one in got.records if one.phase == "measured"}
    assert reason == (
        "cache: cold was asked for, but 32 of 500 prompt tokens of the cell came from the server's cache "
        "(by the server's counters: it counts none for each request)"
    )
    assert got.records[0].invalid is None, "warm-up is in no statistic anyway"


def test_cold_cell_of_a_server_that_counts_no_prompts_is_invalid_too() -> None:
    got = judged("cold", of=counters(cached_tokens=32, prompt_tokens=None))
    assert "but 32 prompt tokens of the cell came from" in str(got.records[1].invalid)


def test_warm_cell_whose_server_counted_no_cached_tokens_is_invalid() -> None:
    got = judged("warm")
    assert str(got.records[1].invalid).startswith(
        "cache: warm was asked for, but no prompt token of the cell came from"
    )


@pytest.mark.parametrize(("cache", "cached"), [("cold", 0), ("warm", 400), ("any", 400)])
def test_cell_whose_cache_was_as_asked_for_is_valid(cache: str, cached: int) -> None:
    assert {one.invalid for one in judged(cache, of=counters(cached_tokens=cached)).records} == {None}


def test_other_reasons_for_being_invalid_stay() -> None:
    got = judged("cold", of=counters(cached_tokens=32), invalid="client-bound")
    assert {one.invalid for one in got.records} == {"client-bound"}
