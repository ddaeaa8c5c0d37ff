from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pytest_modellens.errors import RequestError, StatusError, StorageError
from pytest_modellens.hardware.sampler import GAUGES, SHARES
from pytest_modellens.record import Record
from pytest_modellens.report.columns import ERROR_CLASSES, HARDWARE_COLUMNS, HARDWARE_PEAKS, METRICS, REQUEST_COLUMNS
from pytest_modellens.report.csv import (
    TIMELINE_REQUESTS,
    write_hardware_csv,
    write_requests_csv,
    write_summary_csv,
    write_timeline_csv,
)
from pytest_modellens.report.summary import CellSummary, summarise
from pytest_modellens.report.summary_columns import SUMMARY_COLUMNS, TABLES
from tests.report.runs import bare as record

RECORD_FIELDS = {field.name for field in msgspec.structs.fields(Record)}


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def requests_of(path: Path, *records: dict[str, Any]) -> list[dict[str, str]]:
    write_requests_csv(path, records)
    return read(path / "requests.csv")


def summary_of(path: Path, *records: dict[str, Any], hardware: Any = ()) -> list[dict[str, str]]:
    write_summary_csv(path, summarise(records, hardware=hardware))
    return read(path / "summary.csv")


def test_columns_are_unique_and_described() -> None:
    for table in TABLES:
        columns = table.columns
        names = [column.name for column in columns]
        assert len(set(names)) == len(names)
        assert all(column.description for column in columns)
        assert {column.source for column in columns if column.source} <= RECORD_FIELDS


def test_columns_of_requests_leave_out_only_what_has_a_file_of_its_own() -> None:
    assert RECORD_FIELDS - {column.source for column in REQUEST_COLUMNS} == {"timeline", "hardware", "server"}


def test_columns_of_hardware_are_those_of_the_sampler() -> None:
    names = {column.name for column in HARDWARE_COLUMNS}
    assert names == {
        "suite",
        "case",
        "params",
        "provider",
        "model",
        "at",
        "at_ms",
        "cpu_energy_j",
        "schema_version",
        *SHARES,
        *GAUGES,
    }
    assert {name.removesuffix("_peak") for name in HARDWARE_PEAKS} == {*SHARES, *GAUGES}


def test_columns_know_every_error_class() -> None:
    classes = {kind.error_class for kind in RequestError.__subclasses__()}
    statuses = {StatusError("", status=status).error_class for status in (404, 429, 503)}
    assert set(ERROR_CLASSES) == classes | statuses


def test_metrics_are_fields_of_records_and_summaries() -> None:
    assert set(METRICS) <= RECORD_FIELDS
    assert set(METRICS) <= set(CellSummary.__dataclass_fields__)


def test_requests_have_a_row_each_in_the_order_of_the_columns(tmp_path: Path) -> None:
    rows = requests_of(tmp_path, record(phase="warmup"), record(round=3, ok=False, error_class="timeout"))
    assert list(rows[0]) == [column.name for column in REQUEST_COLUMNS]
    assert [(row["phase"], row["round"], row["ok"]) for row in rows] == [
        ("warmup", "0", "True"),
        ("measured", "3", "False"),
    ]


def test_requests_of_nothing_are_a_header(tmp_path: Path) -> None:
    assert requests_of(tmp_path) == []
    assert (tmp_path / "requests.csv").read_text().startswith("suite,case,params,")


def test_value_that_does_not_exist_is_an_empty_cell_and_counts_stay_whole(tmp_path: Path) -> None:
    rows = requests_of(tmp_path, record(completion_tokens=3, ttft_ms=0.1), record(ttft_ms=float("inf")))
    assert [(row["completion_tokens"], row["ttft_ms"]) for row in rows] == [("3", "0.1"), ("", "")]
    assert {rows[0][name] for name in ("params", "server_timings", "expect_failures", "itl_ms_p50", "model")} == {
        "",
        "tiny",
    }


def test_lists_are_percentiles_and_objects_are_json(tmp_path: Path) -> None:
    (row,) = requests_of(
        tmp_path,
        record(
            itl_ms=[1.0, 2.0, 3.0],
            inter_chunk_ms=[10.0],
            params={"b": 1, "a": "x"},
            server_timings={"server_queue_ms": 1.5},
            expect_failures=["too short", "no 'Paris'"],
        ),
    )
    assert (row["itl_ms_p50"], row["itl_ms_p95"], row["itl_ms_p99"]) == ("2.0", "2.9", "2.98")
    assert row["inter_chunk_ms_p99"] == "10.0"
    assert (row["params"], row["server_timings"]) == ('{"a":"x","b":1}', '{"server_queue_ms":1.5}')
    assert row["expect_failures"] == "too short; no 'Paris'"


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+49", "'+49"),
        ("-5", "'-5"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\\t=1"),
        ("\r=1", "'\\r=1"),
        ("\nx", "'\\nx"),
        ("  =cmd|' /C calc'!A0", "'  =cmd|' /C calc'!A0"),
        ("\uff1d1", "'\uff1d1"),
        ("a=1", "a=1"),
        ("line\nbreak\r\ntab\t", "line\\nbreak\\r\\ntab\\t"),
        ("\x1b[31mred\x00\x9f", "\\x1b[31mred\\x00\\x9f"),
        ("a\u2028b\u202ec", "a\\u2028b\\u202ec"),
        ('say "hi", ok; fine', 'say "hi", ok; fine'),
        ("日本 é 🙂", "日本 é 🙂"),
        ("half \ud83d", "half \\ud83d"),
    ],
)
def test_text_cannot_run_or_break_anything(tmp_path: Path, text: str, cell: str) -> None:
    # Half of a surrogate pair survives in a dict, not in every codec.
    (row,) = requests_of(tmp_path, record() | {"response": text})
    assert row["response"] == cell
    assert len((tmp_path / "requests.csv").read_bytes().split(b"\n")) == 3


def test_summary_has_a_row_a_cell_in_the_order_of_the_columns(tmp_path: Path) -> None:
    rows = summary_of(tmp_path, record(), record(params={"n": 2}), record(), record(phase="warmup", case="other"))
    assert list(rows[0]) == [column.name for column in SUMMARY_COLUMNS]
    assert [(row["params"], row["n"]) for row in rows] == [("", "2"), ('{"n":2}', "1")]


def test_summary_has_statistics_counts_and_errors(tmp_path: Path) -> None:
    good = [
        record(ttft_ms=float(n), completion_tokens=2, tokens_source="usage", itl_ms=[float(n)]) for n in range(1, 7)
    ]
    bad = [record(ok=False, error_class="http_429"), record(ok=False, error_class="strange")]
    (row,) = summary_of(tmp_path, *good, *bad)
    assert (row["n"], row["n_ok"], row["n_errors"]) == ("8", "6", "2")
    assert (row["errors_http_429"], row["errors_other"], row["errors_timeout"]) == ("1", "1", "0")
    assert (row["ttft_ms_p50"], row["ttft_ms_p50_low"], row["ttft_ms_p50_high"]) == ("3.5", "1.0", "6.0")
    assert (row["ttft_ms_mean"], row["itl_ms_p50"]) == ("3.5", "3.5")
    assert (row["tpot_ms_p50"], row["tpot_ms_p50_low"]) == ("", "")
    assert (row["output_tokens"], row["tokens_source"], row["tokens_estimated"]) == ("12", "usage", "False")
    assert {row[name] for name in HARDWARE_PEAKS} == {""}


def test_summary_holds_the_highest_hardware_peaks_of_its_cell(tmp_path: Path) -> None:
    key = {name: record()[name] for name in ("suite", "case", "params", "provider", "model")}
    hardware = [
        key | {"summary": {"ram_used_mb_peak": 10.0, "gpu_power_w_peak": None, "samples": 2}},
        key | {"summary": {"ram_used_mb_peak": 30.0}},
        key | {"summary": {"ram_used_mb_peak": 20.0}},
        key | {"case": "another", "summary": {"ram_used_mb_peak": 99.0}},
    ]
    (row,) = summary_of(tmp_path, record(), hardware=hardware)
    assert (row["ram_used_mb_peak"], row["gpu_power_w_peak"]) == ("30.0", "")


def test_hardware_has_a_row_a_sample(tmp_path: Path) -> None:
    cell = {name: record()[name] for name in ("suite", "case", "params", "provider", "model")}
    samples = [{"at": "2026-11-21", "at_ms": 0.5, "ram_used_mb": 10.0, "gpu_power_w": None}, {"at_ms": 500.25}]
    hardware = [cell | {"summary": {}, "series": samples}, cell | {"params": {"n": 1}, "series": samples[1:]}]
    write_hardware_csv(tmp_path, hardware)
    rows = read(tmp_path / "hardware.csv")
    assert list(rows[0]) == [column.name for column in HARDWARE_COLUMNS]
    assert [(row["params"], row["at_ms"], row["ram_used_mb"], row["gpu_power_w"]) for row in rows] == [
        ("", "0.5", "10.0", ""),
        ("", "500.25", "", ""),
        ('{"n":1}', "500.25", "", ""),
    ]


def test_csv_makes_the_folders_that_it_needs(tmp_path: Path) -> None:
    write_requests_csv(tmp_path / "a" / "b", [])
    assert (tmp_path / "a" / "b" / "requests.csv").is_file()


def test_csv_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "requests.csv").mkdir()
    with pytest.raises(StorageError, match=r"requests.csv: cannot be written \(Is a directory\)"):
        write_requests_csv(tmp_path, [])


def test_summary_fills_every_column_that_is_a_count(tmp_path: Path) -> None:
    (row,) = summary_of(tmp_path, record(cached_tokens=3), record(phase="warmup", ok=False))
    counts = {name: row[name] for name in row if name.startswith("n_") or name in {"n", "schema_version"}}
    assert counts == {
        "n": "1",
        "n_ok": "1",
        "n_errors": "0",
        "n_expect_failed": "0",
        "n_invalid": "0",
        "n_warmup_failed": "1",
        "n_cached": "1",
        "schema_version": "1",
    }


def test_summary_holds_what_a_load_achieved(tmp_path: Path) -> None:
    key = {name: record()[name] for name in ("suite", "case", "params", "provider", "model")}
    interval = {"low": 0.5, "high": 0.9, "confidence_reached": 0.95}
    load = key | {
        "summary": {"asked_rate": 4.0, "goodput": 0.75, "goodput_interval": interval},
        "health": {"client_bound": False},
        "transient_requests": 3,
    }
    write_summary_csv(tmp_path, summarise([record(), record(case="other")], loads=[load]))
    first, second = read(tmp_path / "summary.csv")
    shown = ("asked_rate", "goodput", "goodput_low", "goodput_high", "client_bound", "transient_requests", "error_rate")
    assert [first[name] for name in shown] == ["4.0", "0.75", "0.5", "0.9", "False", "3", ""]
    assert {second[name] for name in shown} == {""}


def timeline(*event_ns: int) -> dict[str, Any]:
    n = len(event_ns)
    events = {"event_kind": ["content"] * n, "event_tokens": [1] * n, "event_has_content": [True] * n}
    return {"scheduled_ns": 0, "headers_ns": 1, "ended_ns": 9, "event_ns": [*event_ns], **events}


def test_timeline_has_a_row_an_event(tmp_path: Path) -> None:
    records = [record(), record(round=1, timeline=timeline(10_000_000, 30_500_000), sent_ns=1_000_000)]
    write_timeline_csv(tmp_path, records)
    rows = read(tmp_path / "timeline.csv")
    shown = ("round", "event", "at_ms", "gap_ms", "load_ms", "kind", "tokens", "has_content")
    assert [[row[name] for name in shown] for row in rows] == [
        ["1", "0", "10.0", "", "11.0", "content", "1", "True"],
        ["1", "1", "30.5", "20.5", "31.5", "content", "1", "True"],
    ]


def test_timeline_is_of_the_first_requests_of_each_cell(tmp_path: Path) -> None:
    many = [record(round=n, timeline=timeline(1)) for n in range(TIMELINE_REQUESTS + 5)]
    write_timeline_csv(tmp_path, [*many, record(case="other", timeline=timeline(1))])
    assert len(read(tmp_path / "timeline.csv")) == TIMELINE_REQUESTS + 1


def test_long_files_are_written_in_parts_with_one_header(tmp_path: Path) -> None:
    rows = requests_of(tmp_path, *[record(round=n) for n in range(10_001)])
    assert [row["round"] for row in rows] == [str(n) for n in range(10_001)]


DOCS = Path(__file__).parents[2] / "docs" / "csv.md"


def test_documentation_lists_every_column_with_its_unit() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for table in TABLES:
        section = text.partition(f"## {table.file}\n")[2].partition("\n## ")[0]
        rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", section, re.MULTILINE)
        assert rows == [(column.name, column.unit, column.description) for column in table.columns], table.file
        assert f"One row: {table.row}." in section


def test_text_guarded_for_a_spreadsheet_is_documented() -> None:
    assert f"first {TIMELINE_REQUESTS} requests of each cell" in DOCS.read_text(encoding="utf-8")
