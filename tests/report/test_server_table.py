from __future__ import annotations

from typing import Any

from pytest_modellens.report.server_table import server_table


def cell(case: str = "saturate", params: dict[str, Any] | None = None, **server: Any) -> dict[str, Any]:
    return {"case": case, "params": params or {}, "provider": "vllm", "server": server}


FULL: dict[str, Any] = {
    "scrapes": 9,
    "requests_running_mean": 3.94,
    "requests_waiting_mean": 12.0,
    "requests_waiting_peak": 28.0,
    "kv_cache_percent_peak": 97.6,
    "cache_hit_percent": 24.2,
    "preemptions": 3,
    "generation_tokens": 25600,
    "client_generation_tokens": 25600,
    "note": None,
}


def test_servers_are_rows_with_both_counts() -> None:
    lines = server_table([cell(params={"concurrency": 32}, **FULL)], width=80)
    assert [line.text for line in lines] == [
        "server          running waiting peak KV cache cached preempted tokens seen here",
        "saturat…ncy=32]    3.94    12.0 28.0     98 %   24 %         3 25,600    25,600",
        "  running, waiting: means over the load; tokens: written by the server, and as counted here",
        "",
    ]


def test_table_fits_the_terminal_and_leaves_out_what_no_server_tells() -> None:
    told = FULL | {"preemptions": None, "kv_cache_percent_peak": None, "requests_waiting_mean": 0.0}
    header, row, *_ = server_table([cell(params={"temperature": "x" * 60}, **told)], width=80)
    assert "preempted" not in header.text
    assert "KV" not in header.text
    assert max(len(header.text), len(row.text)) < 80
    assert "…" in row.text


def test_server_that_told_nothing_is_only_a_note() -> None:
    missing = cell(scrapes=0, note="/metrics: HTTP 404")
    assert [line.text for line in server_table([missing, missing], width=80)] == [
        "  server's metrics: /metrics: HTTP 404",
        "",
    ]


def test_nothing_is_shown_without_metrics() -> None:
    assert server_table([cell(), {"case": "a", "params": {}, "provider": "openai"}], width=80) == []
