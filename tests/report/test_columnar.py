"""By column or one by one, from the lines or from the cache: the same numbers and the same bytes."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_modellens.record import Record, sorted_json, to_json
from pytest_modellens.report.cell_key import CellKey, cell_key
from pytest_modellens.report.cells import KEPT, is_averaged
from pytest_modellens.report.columns import REQUEST_COLUMNS
from pytest_modellens.report.csv import plain_text, write_requests_csv, write_summary_csv, write_timeline_csv
from pytest_modellens.report.outline import summary_json
from pytest_modellens.report.page import page
from pytest_modellens.report.source import read, run_of
from pytest_modellens.stats.percentile import percentile
from pytest_modellens.storage import decoding, requests
from pytest_modellens.storage.cache import CACHE
from pytest_modellens.storage.lines import encode
from pytest_modellens.storage.requests import Requests
from tests.report import runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_modellens.report.source import ReportRun

TEXTS = st.one_of(st.sampled_from(["", "plain", *runs.HOSTILE]), st.text(max_size=20))
NUMBERS = st.one_of(
    st.floats(0.001, 1e5), st.floats(), st.sampled_from([0.0, -0.0, 1e-5, 1e16, 1e22, 5e-324, 0.1 + 0.2])
)
COUNTS = st.one_of(st.none(), st.integers(0, 300), st.integers(-(2**63), 2**63 - 1))
GAPS = st.lists(st.floats(0.001, 1e4), max_size=9)


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), values)


def objects(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(TEXTS, values, max_size=3)


EVENTS = {"event_ns": [1, 5], "event_kind": ["content"] * 2, "event_tokens": [1, None], "event_has_content": [True] * 2}
RECORDS = st.fixed_dictionaries(
    {
        "suite": st.sampled_from(["a.yaml", 'b,"c".yaml']),
        "case": st.sampled_from(["one", "=two"]),
        "params": st.sampled_from([{}, {"b": 1, "a": [None, "x"]}, {"a": [None, "x"], "b": 1}]),
        "provider": st.just("vllm"),
        "model": st.sampled_from(["tiny", None]),
        "round": st.integers(0, 50),
        "started_at": TEXTS,
        "ok": st.sampled_from([True, True, True, False]),
    },
    optional={
        **dict.fromkeys(("ttft_ms", "total_time_ms", "tpot_ms", "tokens_per_second", "cost_usd"), maybe(NUMBERS)),
        **dict.fromkeys(("error_class", "error", "invalid", "clock_note", "arm", "finish_reason"), maybe(TEXTS)),
        **dict.fromkeys(("response", "reasoning", "tokens_source"), TEXTS),
        **dict.fromkeys(("prompt_tokens", "completion_tokens", "cached_tokens", "sent_ns"), COUNTS),
        **dict.fromkeys(("expect_failures", "notes", "degraded"), st.lists(TEXTS, max_size=2)),
        "phase": st.sampled_from(["measured", "warmup", "transient"]),
        "itl_ms": maybe(GAPS),
        "inter_chunk_ms": GAPS,
        "slo_met": maybe(st.booleans()),
        "server_timings": objects(st.floats(0, 1e6)),
        "server_disagreements": st.sampled_from([{}, {"ttft_ms": [1.5, 9.0]}, {"decode_ms": [3.0, 1.0, 2.0]}]),
        "server": objects(st.one_of(st.none(), TEXTS, st.integers(0, 9))),
        "timeline": st.sampled_from([None, {}, {"scheduled_ns": 0, **EVENTS}]),
        "metric_definitions": st.integers(1, 2),
    },
)
DAMAGED = st.sampled_from([b"{", b"[1]", b"\xff", b"", b'{"suite": 7}', b'{"ok": true}', b"\x00"])
LINES = st.lists(st.one_of(RECORDS, RECORDS, RECORDS, DAMAGED), max_size=24)


@contextmanager
def limits(*, large: int, at_once: int, records: int = 5) -> Iterator[None]:
    """Have runs count as large from `large` bytes on, and batches hold few records."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests, "LARGE", large)
        patch.setattr(decoding, "_RECORDS", records)
        patch.setattr(decoding, "_AT_ONCE", at_once)
        yield


def folder_of(path: Path, lines: Sequence[Any]) -> Path:
    """Write a run that has not been touched for a while."""
    folder = runs.folder(path, [])
    encoded = (line if isinstance(line, bytes) else encode(to_json(Record(**line))) for line in lines)
    (folder / "requests.jsonl").write_bytes(b"".join(line + b"\n" for line in encoded))
    long_ago = (folder / "requests.jsonl").stat().st_mtime_ns - 60_000_000_000
    os.utime(folder / "requests.jsonl", ns=(long_ago, long_ago))
    return folder


def files_of(folder: Path, run: ReportRun) -> dict[str, bytes]:
    out = folder / "out"
    write_requests_csv(out, Requests(folder))
    write_timeline_csv(out, Requests(folder))
    write_summary_csv(out, run.summaries)
    return {path.name: path.read_bytes() for path in out.iterdir()}


def everything(folder: Path) -> dict[str, Any]:
    """Return all that reports are made of."""
    run = read(folder)
    assert run.notes == []
    return {
        "files": files_of(folder, run),
        "cells": msgspec.json.encode(
            [{**vars(cell), "columns": column_bytes(cell)} for cell in run.cells.values()], enc_hook=repr
        ),
        "summaries": repr(run.summaries),
        "json": repr(summary_json([run])),
        "rest": (run.costs, run.problems, run.n_records),
    }


def column_bytes(cell: Any) -> dict[str, str]:
    return {name: values.tobytes().hex() for name, values in cell.columns.items()}


@settings(max_examples=50, deadline=None, database=None)
@given(LINES, st.sampled_from([1, 4000, 10**6]), st.sampled_from([1, 5, 8192]))
def test_cache_and_lines_give_the_same(lines: list[Any], at_once: int, records: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = folder_of(Path(temporary), lines)
        with limits(large=10**12, at_once=at_once, records=records):
            plain = everything(folder)
            assert not (folder / CACHE).exists()
        with limits(large=0, at_once=5000):
            first = everything(folder)
            assert (folder / CACHE).exists()
            again = everything(folder)
        assert plain == first == again


@settings(max_examples=50, deadline=None, database=None)
@given(st.lists(RECORDS, max_size=24))
def test_records_in_memory_give_what_their_lines_do(lines: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as temporary, limits(large=0, at_once=5000):
        folder = folder_of(Path(temporary), lines)
        found = numbers_of(read(folder))
        assert numbers_of(run_of(folder.name, {}, kept_in_file(lines))) == found
        write_requests_csv(folder / "lines", Requests(folder))
        write_requests_csv(folder / "memory", kept_in_file(lines))
        assert (folder / "lines" / "requests.csv").read_bytes() == (folder / "memory" / "requests.csv").read_bytes()


def numbers_of(run: ReportRun) -> str:
    return repr((run.summaries, run.costs, run.n_records, [column_bytes(cell) for cell in run.cells.values()]))


def kept_in_file(lines: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the records as they are in the file."""
    return [msgspec.json.decode(encode(to_json(Record(**line)))) for line in lines]


def cell_text(value: Any) -> Any:
    if isinstance(value, float) and not isfinite(value):
        return None
    return plain_text(value) if isinstance(value, str) else value


def row_by_hand(record: dict[str, Any]) -> list[Any]:
    row = []
    for column in REQUEST_COLUMNS:
        value = record[column.source or ""]
        if column.name.endswith(("_p50", "_p95", "_p99")):
            value = percentile(value or (), int(column.name[-2:]))
        elif column.name in {"expect_failures", "notes", "degraded"}:
            value = "; ".join(value) or None
        elif isinstance(value, dict):
            value = sorted_json(value) if value else None
        row.append(cell_text(value))
    return row


@settings(max_examples=50, deadline=None, database=None)
@given(st.lists(RECORDS, max_size=24))
def test_csv_is_that_of_each_record_by_itself(lines: list[Any]) -> None:
    expected = io.StringIO(newline="")
    writer = csv.writer(expected, lineterminator="\n")
    writer.writerow([column.name for column in REQUEST_COLUMNS])
    writer.writerows(map(row_by_hand, kept_in_file(lines)))
    with tempfile.TemporaryDirectory() as temporary, limits(large=0, at_once=5000):
        folder = folder_of(Path(temporary), lines)
        found = files_of(folder, read(folder))["requests.csv"].decode()
    assert found == expected.getvalue()


@settings(max_examples=50, deadline=None, database=None)
@given(st.lists(RECORDS, max_size=24))
def test_cells_are_those_of_each_record_by_itself(lines: list[Any]) -> None:
    records = kept_in_file(lines)
    with tempfile.TemporaryDirectory() as temporary, limits(large=0, at_once=5000):
        cells = read(folder_of(Path(temporary), lines)).cells
    shown = [r for r in records if r["phase"] == "measured" or not r["ok"] or r["notes"]]
    assert [*cells] == [*dict.fromkeys(map(cell_key, shown))]
    for key, cell in cells.items():
        check(key, cell, [record for record in shown if cell_key(record) == key])


def check(key: CellKey, cell: Any, mine: list[dict[str, Any]]) -> None:
    """Compare one cell with what its records are, counted one by one."""
    measured = [record for record in mine if record["phase"] == "measured"]
    averaged = [record for record in measured if is_averaged(record)]
    good = [record for record in measured if record["ok"]]
    assert cell_key({**key._asdict(), "params": cell.params}) == key
    expected = {
        "n": len(measured),
        "ok": len(good),
        "averaged": len(averaged),
        "expect_failed": sum(bool(record["expect_failures"]) for record in good),
        "warmup_failed": sum(not record["ok"] for record in mine if record["phase"] != "measured"),
        "cached": sum(bool(record["cached_tokens"]) for record in averaged),
        "counted": sum(record["completion_tokens"] is not None for record in averaged),
        "costed": sum(record["cost_usd"] is not None for record in measured),
    }
    assert {name: cell.counts[name] for name in expected} == expected
    for name in ("ttft_ms", "tpot_ms"):
        finite = [record for record in averaged if record[name] is not None]
        assert repr([*cell.columns[name]]) == repr([record[name] for record in finite])
        assert [*cell.blocks[name]] == [record["round"] for record in finite if record["arm"]]
    assert [*cell.columns["itl_ms"]] == [gap for record in averaged for gap in record["itl_ms"] or ()]
    assert cell.output_tokens == sum(record["completion_tokens"] or 0 for record in averaged)
    assert cell.facts["notes"] == {note for record in mine for note in record["notes"]}
    assert cell.facts["invalid"] == {r["invalid"] for r in good} - {None}
    assert cell.server_side == next((record["server"] for record in mine if record["server"]), {})
    timings = [pair for record in averaged for pair in record["server_timings"].items()]
    assert {name: [*values] for name, values in cell.server.items()} == {
        name: [value for one, value in timings if one == name] for name, _ in timings
    }
    assert cell.averaged == averaged[:KEPT]
    assert cell.failed == [record for record in mine if not record["ok"] or record not in [*averaged, *outside(mine)]]


def outside(mine: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in mine if record["phase"] != "measured"]


def test_page_is_the_same(tmp_path: Path) -> None:
    rows = [*runs.records(30), *(runs.failure(n) for n in range(3)), *runs.records(5, invalid="cached", round=40)]
    folder = runs.folder(tmp_path, rows)
    os.utime(folder / "requests.jsonl", ns=(10**18, 10**18))

    def shown() -> str:
        return page([read(folder)]).partition("<footer>")[0]

    with limits(large=10**12, at_once=10**6):
        plain = shown()
    with limits(large=0, at_once=10**6):
        assert shown() == plain
        assert (folder / CACHE).exists()
        assert shown() == plain
