"""What a report says of a cell beside the numbers."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_modellens.providers import openai_wire
from pytest_modellens.report.facts import about, client_and_server, subject
from pytest_modellens.report.plots.requests import spans
from pytest_modellens.report.series import cells_of
from tests.report import runs


def both(timings: dict[str, float], **changes: Any) -> list[tuple[str, str, str]]:
    rows = runs.records(3, ttft_ms=120.0, total_time_ms=200.0, server_timings=timings, **changes)
    (cell,) = cells_of([runs.run(rows)])
    return client_and_server(cell)


@pytest.mark.parametrize(
    ("timings", "first", "rest"),
    [
        ({"server_prefill_ms": 100.0, "server_decode_ms": 79.0}, "prefill 100", "decode 79"),
        ({"server_queue_ms": 8.0, "server_ttft_ms": 110.0}, "110, of it queue 8", "–"),
        ({"server_ttft_ms": 110.0}, "110", "–"),
    ],
    ids=["llama.cpp", "vLLM", "LM Studio"],
)
def test_times_of_the_server_stand_beside_the_same_times_of_the_client(
    timings: dict[str, float], first: str, rest: str
) -> None:
    assert both(timings) == [("until the first token", "120", first), ("from there to the end", "80", rest)]


def test_answer_in_one_piece_has_one_time_of_the_client() -> None:
    timings = {"server_prefill_ms": 100.0, "server_decode_ms": 79.0, "server_load_ms": 3.0}
    rows = runs.records(3, ttft_ms=None, total_time_ms=200.0, server_timings=timings)
    (cell,) = cells_of([runs.run(rows)])
    assert client_and_server(cell) == [("the whole answer", "200", "prefill 100 + decode 79"), ("load", "–", "3")]


def test_server_that_says_nothing_has_no_table() -> None:
    assert both({}) == []


def test_names_are_those_that_providers_give() -> None:
    given = {*openai_wire._LLAMA_TIMINGS.values(), *openai_wire._VLLM_METRICS.values()}
    shown = both(dict.fromkeys(given, 8.0))
    assert shown[0][2] == "8, of it queue 8 + prefill 8"
    assert [name for name, *_ in shown[2:]] == ["itl"]
    (span,) = spans([runs.record(ttft_ms=120.0, total_time_ms=200.0, server_timings=dict.fromkeys(given, 8.0))])
    assert (span.queue, span.first) == (8.0, 112.0)


def test_run_says_when_it_began() -> None:
    assert ("started", "2026-11-21 20:30:00 UTC") in about(runs.run())
    assert subject([runs.run()]).endswith("2026-11-21")
