"""Runs in the formats of other tools, read by these where they can be had, else held against what they document."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from pytest_modellens.cli import main
from pytest_modellens.report.export import FORMATS, export
from pytest_modellens.report.export_command import _FORMATS
from pytest_modellens.report.source import run_of
from tests.report.runs import KEY, META, record

if TYPE_CHECKING:
    from pathlib import Path

# Written from https://bencher.dev/docs/reference/bencher-metric-format: any benchmark, any measure, a value, two ends.
BMF = {
    "type": "object",
    "propertyNames": {"minLength": 1, "maxLength": 1024},
    "additionalProperties": {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"minLength": 1, "maxLength": 64},
        "additionalProperties": {
            "type": "object",
            "required": ["value"],
            "additionalProperties": False,
            "properties": {name: {"type": "number"} for name in ("value", "lower_value", "upper_value")},
        },
    },
}
# What github-action-benchmark reads of a custom benchmark: its BenchmarkResult, of which two fields may be left out.
CUSTOM = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["name", "unit", "value"],
        "additionalProperties": False,
        "properties": {
            "value": {"type": "number"},
            **{name: {"type": "string", "minLength": 1} for name in ("name", "unit", "range", "extra")},
        },
    },
}
NAME = "suites/chat.yaml::capital (vllm, tiny)"


def made(*records: dict[str, Any], form: str = "bencher", **meta: Any) -> Any:
    return export(run_of("run", {**META, **meta}, records), form)


def good(n: int = 8, **changes: Any) -> list[dict[str, Any]]:
    return [record(number, **changes) for number in range(n)]


def test_command_offers_every_format() -> None:
    assert (*FORMATS,) == _FORMATS


def test_bencher_has_a_measure_a_metric_with_the_medians_interval() -> None:
    found = made(*good()).data
    jsonschema.validate(found, BMF)
    assert [*found] == [NAME]
    assert {*found[NAME]} == {"tokens-per-second", "ttft-ms", "tpot-ms", "total-time-ms"}
    ttft = found[NAME]["ttft-ms"]
    assert ttft["lower_value"] <= ttft["value"] <= ttft["upper_value"]
    assert ttft["value"] == 107.5
    assert found[NAME]["tokens-per-second"]["value"] == pytest.approx(1000 / 10.3, rel=0.02)


def test_interval_that_few_requests_do_not_have_is_left_out() -> None:
    found = made(*good(5)).data
    jsonschema.validate(found, BMF)
    assert [*found[NAME]["ttft-ms"]] == ["value"]
    (entry, *_) = made(*good(5), form="customBiggerIsBetter").data
    assert "range" not in entry


def test_github_action_gets_a_file_for_each_direction() -> None:
    bigger, smaller = (made(*good(), form=form).data for form in ("customBiggerIsBetter", "customSmallerIsBetter"))
    for found in (bigger, smaller):
        jsonschema.validate(found, CUSTOM)
    assert [(one["name"], one["unit"]) for one in bigger] == [(f"{NAME} tokens_per_second", "tokens/s")]
    assert [(one["name"].split()[-1], one["unit"]) for one in smaller] == [
        ("ttft_ms", "ms"),
        ("tpot_ms", "ms"),
        ("total_time_ms", "ms"),
    ]
    assert smaller[0]["extra"] == "median of 8 requests"
    assert smaller[0]["range"] == "100 to 118"


def test_load_has_its_throughput_and_goodput() -> None:
    summary = {
        "n_started": 8,
        "request_throughput": 2.5,
        "output_throughput": 20.0,
        "goodput": 0.75,
        "goodput_interval": {"low": 0.4, "high": 0.9},
    }
    found = made(*good(), cells=[{**KEY, "summary": summary}]).data[NAME]
    assert found["goodput"] == {"value": 0.75, "lower_value": 0.4, "upper_value": 0.9}
    assert found["request-throughput"] == {"value": 2.5}
    bigger = made(*good(), form="customBiggerIsBetter", cells=[{**KEY, "summary": summary}]).data
    assert [(one["unit"], one["extra"]) for one in bigger][1:] == [
        ("requests/s", "8 requests"),
        ("tokens/s", "8 requests"),
        ("share", "8 requests"),
    ]


def test_pytest_benchmark_reads_its_format(tmp_path: Path) -> None:
    for name, speed in (("a", 1.0), ("b", 2.0)):
        found = made(*good(speed=speed), form="pytest-benchmark").data
        (tmp_path / f"{name}.json").write_text(json.dumps(found))
        (entry,) = found["benchmarks"]
        assert entry["stats"]["rounds"] == len(entry["stats"]["data"]) == 8
        about = {name: found["machine_info"][name] for name in ("machine", "system", "release")}
        assert about == {"machine": "x86_64", "system": "Linux", "release": "6.1"}
        assert entry["stats"]["median"] == pytest.approx(entry["extra_info"]["total_time_ms"] / 1000)
    compared = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", "a.json", "b.json", "--csv=out.csv"],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert "Failed to load" not in compared.stderr
    assert "capital" in compared.stdout
    (table,) = tmp_path.glob("*.csv")
    assert len(table.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"ok": False, "error_class": "timeout", "error": "x"}, "failed requests"),
        ({"invalid": "client-bound"}, "invalid"),
        ({"expect_failures": ["x"]}, "unexpected answers"),
        ({"degraded": ["hot"]}, "degraded"),
    ],
)
@pytest.mark.parametrize("form", [*FORMATS])
def test_cell_whose_numbers_mean_nothing_is_left_out_and_named(changes: Any, why: str, form: str) -> None:
    bad = [record(number, case="bad", **(changes if number == 3 else {})) for number in range(8)]
    found = made(*good(), *bad, form=form)
    assert found.n_cells == 1
    assert found.left_out == {"suites/chat.yaml::bad (vllm, tiny)": why}
    assert "bad" not in json.dumps(found.data)


def test_limit_that_was_not_kept_is_no_reason_to_hide_a_number() -> None:
    failed = [{**KEY, "why": "limit ttft_ms.p95 < 1: not kept"}]
    assert made(*good(), failed=failed).n_cells == 1
    assert made(*good(degraded=["hot"]), *good(case="b"), failed=failed).left_out == {NAME: "degraded"}


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for pair in value.items() for one in pair for text in texts(one)]
    if isinstance(value, list):
        return [text for one in value for text in texts(one)]
    return [value] if isinstance(value, str) else []


def test_names_are_safe_and_each_its_own() -> None:
    odd = "\x1b[31mü/<b>\n" + "x" * 2000
    cases = [*good(suite=odd), *good(suite=odd, case="capital2"), *good(params={"t/x": "a\tb"})]
    for form in FORMATS:
        assert all(text.isprintable() for text in texts(made(*cases, form=form).data))
    found = made(*cases).data
    assert len(found) == 3
    jsonschema.validate(found, BMF)
    assert "suites/chat.yaml::capital[t/x=a\\tb] (vllm, tiny)" in found


def folder(path: Path, *records: dict[str, Any], **meta: Any) -> Path:
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps({"schema_version": 1, **META, **meta}))
    (path / "requests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records))
    return path


@pytest.mark.parametrize(
    ("records", "meta", "message"),
    [
        (good(), {"ended_at": None}, "was cut off, or still goes on; only a finished run can be exported"),
        ([], {}, "has no cell to export (nothing was measured)"),
        ([record(ok=False, error_class="connect", error="x")], {}, "has no cell to export (*: failed requests)"),
    ],
)
def test_run_with_nothing_to_export_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], records: Any, meta: Any, message: str
) -> None:
    folder(tmp_path / "20260101T000000Z-a", *records, **meta)
    assert main(["export", "--format", "bencher", "--results", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    begin, _, end = message.partition("*")
    assert told.startswith(f"modellens: 20260101T000000Z-a: {begin}")
    assert told.endswith(f"{end}\n")


def test_missing_run_and_unwritable_file_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "nothing", "--format", "bencher", "--results", str(tmp_path)]) == 1
    assert "nothing" in capsys.readouterr().err
    folder(tmp_path / "20260101T000000Z-a", *good())
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "x.json"
    assert main(["export", "--format", "bencher", "--results", str(tmp_path), "--out", str(out)]) == 1
    assert "the export cannot be written" in capsys.readouterr().err


def test_command_writes_the_file_and_says_what_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(tmp_path / "20260101T000000Z-a", *good(), record(case="b", ok=False, error_class="connect", error="x"))
    out = tmp_path / "out" / "x.json"
    assert main(["export", "--format", "bencher", "--results", str(tmp_path), "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert told.out == f"exported: {out} (1 case)\n"
    assert told.err == "left out: suites/chat.yaml::b (vllm, tiny): failed requests\n"
    assert main(["export", "--format", "bencher", "--results", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(out.read_text())
