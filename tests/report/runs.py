"""Runs made up of records, for tests of what is made of them."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pytest_modellens.record import Record, to_json
from pytest_modellens.report.source import ReportRun, run_of
from pytest_modellens.storage import RunFolder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

META = {
    "started_at": "2026-11-21T20:30:00.000+00:00",
    "ended_at": "2026-11-21T20:31:00.000+00:00",
    "environment": {
        "machine": {
            "architecture": "x86_64",
            "cpu_model": "Fast CPU",
            "cores_usable": 4,
            "ram_total_mb": 16384.0,
            "gpus": [{"name": "H100"}],
        },
        "os": {"name": "Linux", "version": "Debian 12", "kernel": "6.1"},
        "git": {"commit": "0123456789abcdef", "branch": "main", "is_dirty": True},
        "python": {"version": "3.12.1"},
        "packages": {"pytest": "9.0.0", "pytest-modellens": None},
        "options": {"arguments": ["--provider", "vllm"]},
        "measurement_floor": {"streams": 64, "tolerance": 0.01},
    },
    "servers": {
        "vllm": {
            "version": "0.32",
            "base_url": "http://127.0.0.1:8000/v1",
            "models": [{"id": "tiny", "parameters": "135M", "quantization": "Q4_1"}],
        }
    },
}
KEY = {"suite": "suites/chat.yaml", "case": "capital", "params": {}, "provider": "vllm", "model": "tiny"}


def bare(**changes: Any) -> dict[str, Any]:
    """Return the record of a good request of which nothing was measured but what `changes` has."""
    fields: dict[str, Any] = {**KEY, "round": 0, "started_at": "2026-11-21T20:30:00+00:00", "ok": True}
    return to_json(Record(**fields | changes))


def record(number: Any = 0, *, speed: Any = 1.0, **changes: Any) -> dict[str, Any]:
    """Return the record of a good request; `speed` divides its times."""
    ttft, gap = (100 + 3 * (number % 7)) / speed, (10 + 0.2 * (number % 5)) / speed
    at = [round((ttft + k * gap) * 1e6) for k in range(8)]
    fields: dict[str, Any] = {
        **KEY,
        "case_hash": "c0ffee",
        "round": number,
        "started_at": "2026-11-21T20:30:01.000+00:00",
        "ok": True,
        "status": 200,
        "response": "The capital of France is Paris.",
        "finish_reason": "stop",
        "ttft_ms": ttft,
        "ttfo_ms": ttft,
        "total_time_ms": ttft + 8 * gap,
        "tpot_ms": gap,
        "tokens_per_second": 1000 / gap,
        "tokens_per_second_mode": "generation",
        "e2e_tokens_per_second": 8000 / (ttft + 8 * gap),
        "inter_chunk_ms": [gap] * 7,
        "itl_ms": [gap] * 7,
        "prompt_tokens": 12,
        "completion_tokens": 8,
        "tokens_source": "usage",
        "server_timings": {"server_queue_ms": 5.0, "server_prefill_ms": ttft - 10, "server_decode_ms": 8 * gap},
        "clock": "kernel",
        "timeline": {
            "scheduled_ns": 0,
            "headers_ns": 1,
            "ended_ns": round((ttft + 8 * gap) * 1e6),
            "event_ns": at,
            "event_kind": ["content"] * 8,
            "event_tokens": [1] * 8,
            "event_has_content": [True] * 8,
        },
    }
    return to_json(Record(**fields | changes))


def records(n: int = 8, **changes: Any) -> list[dict[str, Any]]:
    """Return the records of `n` good requests."""
    return [record(number, **changes) for number in range(n)]


def failure(number: int = 0, **changes: Any) -> dict[str, Any]:
    """Return the record of a request that timed out."""
    nothing = dict.fromkeys(("ttft_ms", "ttfo_ms", "total_time_ms", "tpot_ms", "tokens_per_second", "timeline"))
    fields = {"ok": False, "error_class": "timeout", "error": "no answer within 60 s", "response": "", "status": None}
    fields |= {"completion_tokens": None, "itl_ms": None, "inter_chunk_ms": [], "server_timings": {}}
    return record(number, **nothing | fields | changes)


def hardware(**key: Any) -> dict[str, Any]:
    """Return a row of hardware.jsonl with four samples."""
    series = [
        {"at": f"2026-11-21T20:30:0{k}.000+00:00", "at_ms": 1000.0 * k, "cpu_percent": 50.0 + k, "ram_used_mb": 900.0}
        for k in range(4)
    ]
    return {**KEY, **key, "summary": {"cpu_percent_peak": 53.0}, "series": series}


def load(asked: int, *, goodput: float | None = 0.9, **more: Any) -> dict[str, Any]:
    """Return an entry of `cells` of run.json, for `concurrency=asked`."""
    interval = None if goodput is None else {"low": goodput - 0.05, "high": goodput + 0.05, "confidence_reached": 0.95}
    summary = {
        "asked_concurrency": asked,
        "achieved_concurrency": asked * 0.97,
        "asked_rate": None,
        "request_throughput": 2.0 * asked,
        "output_throughput": 100.0 * asked / (1 + asked / 9),
        "goodput": goodput,
        "goodput_interval": interval,
        "error_rate": 0.01,
    }
    health = {"client_bound": False, "reasons": []}
    loaded = {"params": {"concurrency": asked}, "slo": {"ttft_ms": 110.0}, "summary": summary, "health": health}
    return {**KEY, **loaded, **more}


def run(rows: Sequence[dict[str, Any]] | None = None, name: str = "20261121T203000Z-base", /, **meta: Any) -> ReportRun:
    """Return a run of `rows`; by default of eight good requests."""
    return run_of(name, {**META, **meta}, records() if rows is None else rows, [hardware()])


def folder(path: Path, rows: Sequence[dict[str, Any]] | None = None, name: str = "base", **meta: Any) -> Path:
    """Write a run into `path` and return its folder."""
    with RunFolder.create(path, name, now=datetime(2026, 11, 21, 20, 30, tzinfo=UTC)) as made:
        made.append(records() if rows is None else rows)
        made.write_hardware([hardware()])
        made.write_run({**META, **meta})
    return made.path


HOSTILE = (
    "<script>attacked()</script>",
    "<img src=x onerror=attacked()>",
    "</script><script>attacked()</script>",
    "</style><style>*{display:none}</style>",
    "</pre></details></main><h1>owned</h1>",
    '"><svg onload=attacked()>',
    "' onmouseover='attacked()",
    "javascript:attacked()",
    "{{ 7*7 }}{% raw %}",
    "${attacked()}",
    "]]><!--",
    "<base href=http://127.0.0.1:9/>",
    "<meta http-equiv=refresh content=0;url=http://127.0.0.1:9/>",
    "<link rel=stylesheet href=http://127.0.0.1:9/x.css>",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(1)",
    "\t=1+1",
    "\r=1+1",
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b31m",
    "\u202eolleh\u2066",
    "a\u2028b\ufeff",
    "nul\x00nul",
    "half \ud83d",
    "$\\frac{1}{0}$ \\alpha",
    "![x](http://127.0.0.1:9/x.png) [y](javascript:attacked()) @everyone | cell",
    "::set-output name=x::y\n::error::z",
    "x" * 10_000,
    "日本語 العربية 🙂",
    "mo\u200bdel\u2060 \u00ad\u200d\u3164",
    "hidden\U000e0041\U000e0042\U0001d173",
    "back\b\b\b\x7f\x0b\x0c\x85",
    "\x1b]8;;http://127.0.0.1:9/\x07link\x1b]8;;\x07\x1bP1$r\x1b\\\x1b_apc\x1b\\",
    "\u061c\u2067isolate\u2069\u200f\ufff9",
    "one\ntwo\r\nthree\rfour",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308",
    "e" + "\u0301" * 40,
    "<!-- | a | b | ` ``` ~~~ @team #1 https://127.0.0.1:9/ www.example.invalid GH-1 -->",
    "\n# heading\n\n- item\n1. item\n> quote\n\n    code\n---\n<details open>",
)
"""Texts that attack a browser, a spreadsheet, a terminal, a template, Markdown, a plot or the layout."""


def unseen(text: str) -> set[str]:
    """Return the characters of `text` that steer, hide or reorder, but for line ends and joiners within words."""
    allowed = {"\n", "\u200c", "\u200d"}
    return {one for one in text if unicodedata.category(one) in {"Cc", "Cf", "Cs", "Zl", "Zp"}} - allowed


def hostile(text: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return records and the rest of a run in which everything that comes from elsewhere is `text`."""
    key = {"suite": text, "case": text, "params": {text: text}, "provider": text, "model": text}
    mine = {"response": text, "reasoning": text, "finish_reason": text, "expect_failures": [text], "clock_note": text}
    rows = [record(number, **key, **mine, clock="perf_counter") for number in range(6)]
    rows += [failure(9, **key, error=text, error_class=text), record(10, **key, invalid=text, tokens_source=text)]
    rows = [{**row, "server_timings": {text: 1.0}} if row["ok"] else row for row in rows]
    asked = {
        "description": text,
        "prompt": text,
        "prompt_characters": len(text),
        "system_prompt": text,
        "messages": [{"role": text, "content": text}],
        "source": text,
        "settings": {text: text},
        "expect": {text: [text], "equals": text},
        "limits": [text],
        "slo": [text],
    }
    meta = {
        "environment": {
            "machine": {"cpu_model": text, "gpus": [{"name": text}]},
            "os": {"version": text},
            "git": {"commit": text, "branch": text},
            "options": {"arguments": [text]},
        },
        "servers": {text: {"version": text, "base_url": text, "models": [{"id": text, "parameters": text}]}},
        "asked": [{**key, "asked": asked}],
        "failed": [{**key, "why": text}],
        "cells": [{**load(4), **key, "stopped": text, "health": {"client_bound": True, "reasons": [text]}}],
    }
    return rows, meta
