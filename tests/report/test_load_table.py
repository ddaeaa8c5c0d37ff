"""The terminal's table of loads: what each number means, and that it fits."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_modellens.report.lines import Line
from pytest_modellens.report.load_table import load_table


def cell(*, summary: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    numbers = {
        "asked_concurrency": 8,
        "achieved_concurrency": 7.94,
        "asked_rate": None,
        "achieved_rate": 12.3,
        "request_throughput": 12.0,
        "output_throughput": 1534.0,
        "goodput": None,
        "goodput_interval": None,
        "error_rate": 0.0,
        **(summary or {}),
    }
    return {
        "case": "steady",
        "params": {},
        "provider": "vllm",
        "summary": numbers,
        "health": {"client_bound": False, "reasons": []},
        "transient_requests": 0,
        "stopped": None,
        **more,
    }


def texts(*cells: dict[str, Any], width: int = 80) -> list[str]:
    return [line.text for line in load_table(cells, width=width)]


def test_without_loads_there_is_no_table() -> None:
    assert load_table([], width=80) == []
    assert load_table([{**cell(), "summary": None}], width=80) == []


def test_closed_loop() -> None:
    assert texts(cell()) == [
        "load     asked achieved req/s tok/s goodput 95 % err dropped",
        "steady     c 8   c 7.94  12.0  1534            –   –       –",
        "  asked: c requests in flight, or /s started; tok/s of all requests together",
        "  dropped: requests of the transient, before the load was steady",
        "",
    ]


def test_open_loop_with_goodput_errors_and_transient() -> None:
    interval = {"low": 0.5678, "high": 0.912, "confidence_reached": 0.95}
    more = {"goodput": 0.75, "goodput_interval": interval, "error_rate": 0.125}
    row = texts(cell(summary={"asked_concurrency": None, "asked_rate": 2.5, "achieved_rate": 2.4, **more},
                     transient_requests=25))[1]  # fmt: skip
    assert row.split() == ["steady", "2.5/s", "2.4/s", "12.0", "1534", "75%", "57%–91%", "12.5%", "25"]


@pytest.mark.parametrize(
    ("summary", "shown"),
    [
        ({"asked_concurrency": 10_000, "achieved_concurrency": 9_876.5}, ["c", "10,000", "c", "9,876"]),
        ({"asked_concurrency": None, "asked_rate": 1500.0, "achieved_rate": 99.96}, ["1,500/s", "100/s"]),
        ({"asked_concurrency": None, "asked_rate": 1 / 60, "achieved_rate": None}, ["0.0167/s", "–"]),
        ({"achieved_concurrency": None}, ["c", "8", "–"]),
    ],
)
def test_numbers_of_all_sizes_are_readable(summary: dict[str, Any], shown: list[str]) -> None:
    assert texts(cell(summary=summary))[1].split()[1 : 1 + len(shown)] == shown


def test_points_of_a_sweep_and_several_providers_are_told_apart() -> None:
    rows = texts(cell(params={"concurrency": 1}), cell(params={"concurrency": 16}), cell(provider="sglang", params={}))[
        1:4
    ]
    assert [row.split("  ")[0] for row in rows] == [
        "vllm steady[concurrency=1]",
        "vllm steady[concurrency=16]",
        "sglang steady",
    ]


@pytest.mark.parametrize("width", [20, 80, 100, 400])
def test_table_keeps_to_its_width(width: int) -> None:
    interval = {"low": 0.995, "high": 1.0, "confidence_reached": 0.95}
    long = cell(
        case="a-very-long-name-of-a-case-that-nobody-should-have-written-like-this",
        params={"concurrency": 10_000, "system_prompt": "\x1b[31m" * 30},
        summary={"asked_concurrency": 10_000, "achieved_concurrency": 9_999.9, "request_throughput": 123_456.0,
                 "output_throughput": 12_345_678.0, "goodput": 1.0, "goodput_interval": interval, "error_rate": 1.0},
        transient_requests=100_000,
        stopped="11 of the last 20 requests failed, " * 5,
        health={"client_bound": True, "reasons": ["p99 read delay 38.1 ms", "p99 schedule delay 7.25 ms",
                                                  "7.1 of 8 asked for", "client busy 98% of a core"]},
    )  # fmt: skip
    lines = load_table([long, cell(provider="another-provider")], width=width)
    assert max(len(line.text) for line in lines) < max(80, min(width, 120))
    assert "\x1b" not in "".join(line.text for line in lines)


def test_client_bound_and_stopped_loads_are_red_and_say_why() -> None:
    health = {"client_bound": True, "reasons": ["p99 read delay 38 ms", "7.1 of 8 asked for"]}
    lines = load_table([cell(health=health, stopped="11 of the last 20 requests failed")], width=80)
    assert [line.style for line in lines[:4]] == ["bold", "red", "red", "red"]
    assert lines[2:4] == [
        Line("  ✗ client-bound: p99 read delay 38 ms; 7.1 of 8 asked for", "red"),
        Line("  ✗ stopped early: 11 of the last 20 requests failed", "red"),
    ]


def test_row_of_a_damaged_file_shows_what_there_is() -> None:
    row = texts({"case": "steady", "params": {}, "provider": "vllm", "summary": {"n_ok": 3}})[1]
    assert row.split() == ["steady", *"–––––––"]


def test_load_that_changed_says_how() -> None:
    how = "median TTFT 20 ms at first, 2,001 ms at last"
    line = load_table([cell(changed=how)], width=80)[2]
    assert line == Line(f"  ! changed while it lasted: {how}", "yellow")
