"""`modellens report`, and files made of runs: whole ones, and all the others there are."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.cli import main
from pytest_modellens.report.columns import KEY
from pytest_modellens.report.files import write_csv
from pytest_modellens.report.outline import markdown, summary_json
from pytest_modellens.report.page import BUDGET, page
from pytest_modellens.report.source import run_of
from pytest_modellens.report.summary_columns import SUMMARY_COLUMNS
from tests.report import runs

if TYPE_CHECKING:
    from pathlib import Path


def report(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main(["report", *map(str, arguments)]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    return output.out


def test_report_of_the_latest_run_is_in_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = runs.folder(tmp_path)
    assert report(capsys, "--results", tmp_path) == f"report: {folder / 'report.html'}\n"
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert "All good: 8 requests in 1 cell, none failed" in html
    for fact in ("Fast CPU, 4 cores, 16 GB memory", "H100", "vllm 0.32, http://127.0.0.1:8000/v1, tiny 135M Q4_1"):
        assert fact in html
    for fact in (
        "Debian 12, 6.1",
        "0123456789ab, main, changed",
        "Python 3.12.1, pytest 9.0.0",
        "pytest --provider vllm",
    ):
        assert fact in html


def test_report_writes_everything_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = runs.folder(tmp_path)
    output, summary = tmp_path / "o" / "r.html", tmp_path / "s.json"
    lines = report(
        capsys, folder, "-o", output, "--csv", "--json", summary, "--plots", "svg", "--theme", "both", "--markdown"
    ).splitlines()
    assert lines[:3] == [f"CSV: {folder}", f"JSON: {summary}", f"report: {output}"]
    assert lines[3].startswith(f"plots: {output.parent / 'plots'} (")
    assert "| capital | vllm | 8 |" in "\n".join(lines)
    assert {path.suffix for path in (output.parent / "plots").iterdir()} == {".svg"}
    assert {path.name for path in folder.glob("*.csv")} == {
        "requests.csv", "summary.csv", "hardware.csv", "timeline.csv"}  # fmt: skip
    assert json.loads(summary.read_text())["run"] == folder.name


def test_report_of_two_runs_says_which_is_faster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = runs.folder(tmp_path, runs.records(12), "base")
    second = runs.folder(tmp_path, runs.records(12, speed=1.5), "new")
    assert report(capsys, first, second, first) == f"report: {first / 'comparison.html'}\n"
    html = (first / "comparison.html").read_text(encoding="utf-8")
    assert "new is faster than base" in html
    assert "Of these two, new is the one to deploy." in html
    assert '<h3 id="pair-1">new beside base</h3>' in html
    assert "times the tokens/s of base; right of 1× is better" in html
    assert "times the TTFT of base; left of 1× is better" in html


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "holds no runs"),
        (["--plots", "pdf"], "must be png, svg or png,svg (got 'pdf')"),
        (["--theme", "pink"], "invalid choice: 'pink'"),
    ],
)
def test_wrong_arguments_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    try:
        status: object = main(["report", "--results", str(tmp_path / "none"), *arguments])
    except SystemExit as exc:
        status = exc.code
    assert status in {1, 2}
    assert message in capsys.readouterr().err


def test_report_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = runs.folder(tmp_path)
    (folder / "report.html").mkdir()
    assert main(["report", str(folder)]) == 1
    assert (
        capsys.readouterr().err
        == f"modellens: {folder}/report.html: the report cannot be written (Is a directory; choose "
        "another file with --modellens-report, or -o of modellens report)\n"
    )
    assert not [*folder.glob(".*.tmp")]


def test_all_files_are_tried_when_one_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = runs.folder(tmp_path)
    (folder / "requests.csv").mkdir()
    assert main(["report", "--csv", str(folder)]) == 1
    assert "requests.csv: cannot be written (Is a directory)" in capsys.readouterr().err
    assert (folder / "timeline.csv").is_file()


def test_plots_that_cannot_be_written_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = runs.folder(tmp_path)
    (folder / "plots").write_text("")
    assert main(["report", "--plots", "png", str(folder)]) == 1
    assert f"{folder}/plots: cannot be written (File exists)" in capsys.readouterr().err


NOTHING = dict.fromkeys(
    [
        *("ttft_ms", "ttfo_ms", "total_time_ms", "tpot_ms", "tokens_per_second", "tokens_per_second_mode", "timeline"),
        *("completion_tokens", "itl_ms", "clock", "model", "finish_reason", "case_hash"),
    ]
)
NAN = dict.fromkeys(("ttft_ms", "total_time_ms", "tpot_ms", "tokens_per_second"), float("nan"))
RUNS: dict[str, tuple[list[dict[str, Any]], dict[str, Any], str]] = {
    "nothing": ([], {}, "Nothing was measured"),
    "no good request": ([runs.failure(n) for n in range(3)], {}, "No request brought a valid measurement"),
    "one request": ([runs.record()], {}, "All good: 1 request in 1 cell, none failed"),
    "only warm-up": ([runs.record(phase="warmup")], {}, "Nothing was measured"),
    "None everywhere": ([runs.record(n, **NOTHING, inter_chunk_ms=[]) for n in range(7)], {},
                        "No request brought a valid measurement"),
    "NaN everywhere": ([runs.record(n, **NAN) for n in range(7)], {}, "No request brought a valid measurement"),
    "definitions": (
        [*runs.records(3), runs.record(metric_definitions=7)], {}, "Metrics by the definitions of version 1, 7"),
    "cut off": (runs.records(2), {"ended_at": None}, "The run was cut off, or still goes on"),
    "empty run.json": (runs.records(2), dict.fromkeys([*runs.META]), "Cut off: 2 requests in 1 cell"),
    "damaged run.json": (runs.records(2), dict.fromkeys([*runs.META, "cells", "asked", "failed"], 7), "2 requests"),
    "estimates": ([runs.record(tokens_source="events")], {}, "Tokens are an estimate"),
    "sources": ([runs.record(), runs.record(tokens_source="events", completion_tokens=None)], {}, "usage"),
    "mixed sources": ([runs.record(), runs.record(tokens_source="token_ids")], {}, "come from several sources"),
    "cache": ([runs.record(cached_tokens=3)], {}, "1 of 1 prompts came from the server&#39;s cache"),
    "own clock": ([runs.record(clock="perf_counter", clock_note="no kernel stamps")], {}, "no kernel stamps"),
    "not streamed": ([runs.record(tokens_per_second_mode="end_to_end", ttft_ms=None)], {}, "Not streamed"),
    "stopped": (
        [runs.record(params={"concurrency": 4})],
        {"cells": [runs.load(4, goodput=None, stopped="too many failed", transient_requests=5)]},
        "The load was stopped early: too many failed.",
    ),
    "changed": (
        [runs.record(params={"concurrency": 4})],
        {"cells": [runs.load(4, goodput=None, changed="median TTFT 2 ms at first, 9 ms at last")]},
        "The load changed while it lasted: median TTFT 2 ms at first, 9 ms at last.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_any_run_has_a_report(tmp_path: Path, name: str) -> None:
    rows, meta, expected = RUNS[name]
    meta = {**runs.META, **meta}
    run = run_of("20261121T203000Z-x", meta, rows)
    html = page([run])
    assert expected in html
    assert "holds no samples of the hardware" in html
    assert ">nan<" not in html.lower()
    assert "None" not in html
    assert "modellens" in markdown([run])
    json.dumps(summary_json([run]), allow_nan=False)
    write_csv(tmp_path, run, rows)
    assert "nan" not in (tmp_path / "summary.csv").read_text().lower()


@pytest.mark.parametrize("name", RUNS)
def test_any_run_can_be_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    rows, meta, expected = RUNS[name]
    folder = runs.folder(tmp_path, [], **{**runs.META, **meta})
    # As another program would write it, not-a-number too.
    (folder / "requests.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / "hardware.jsonl").unlink()
    assert main(["show", str(folder)]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert not re.search(r"(^|[\s/])nan\b", output.out.lower())
    assert "None" not in output.out
    if not any(row["phase"] == "measured" for row in rows):
        assert "no measured requests" in output.out
    if "cut off" in expected:
        assert "note: the run was cut off, or is still running" in output.out
    if name == "NaN everywhere":
        assert "requests.jsonl:1: is not a JSON object; left out" in output.out
        assert main(["report", str(folder), "--csv"]) == 0
        assert "nan" not in (folder / "summary.csv").read_text().lower()


def test_file_system_that_may_only_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Permissions do not bind root, which tests may run as.
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    folder = runs.folder(tmp_path)
    monkeypatch.setattr("pytest_modellens.report.page.write_whole", refuse)
    assert main(["report", str(folder)]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"modellens: {folder}/report.html: the report cannot be written (Read-only file system; ")


@pytest.mark.parametrize("name", RUNS)
def test_any_run_can_be_compared(name: str) -> None:
    rows, meta, _ = RUNS[name]
    html = page([runs.run(), run_of("20261121T203000Z-x", {**runs.META, **meta}, rows)])
    assert "2 runs compared" in html


def test_runs_of_different_machines_are_told_apart() -> None:
    other = {"environment": {"machine": {"cpu_model": "Slow CPU"}}}
    html = page([runs.run(None, "a"), runs.run(None, "b", **other)])
    assert "measured on different machines" in html


def test_large_run_says_what_is_of_the_first_requests() -> None:
    html = page([runs.run(runs.records(200))])
    assert "of the first 40 requests of a cell" in html
    assert "200" in html


def test_report_of_fifty_cases_is_small() -> None:
    rows = [runs.record(n, case=f"case-{case}", response="word " * 100) for case in range(50) for n in range(6)]
    html = page([run_of("x", runs.META, rows, [runs.hardware(case=f"case-{case}") for case in range(50)])])
    assert len(html.encode()) < 2_000_000
    assert html.count('<details class="case') == 50


def test_report_of_very_many_cases_leaves_plots_out_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_modellens.report.page.BUDGET", 20_000)
    html = page([run_of("x", runs.META, [runs.record(case=f"case-{case}") for case in range(8)])])
    assert "Plots of this case are left out to keep the page small" in html
    assert BUDGET > 1_000_000


def test_report_is_the_same_every_time() -> None:
    from datetime import UTC, datetime

    now = datetime(2026, 11, 21, tzinfo=UTC)
    assert page([runs.run()], now=now) == page([runs.run()], now=now)


def test_progress_names_the_cases() -> None:
    told: list[str] = []
    page([runs.run([runs.record(), runs.record(case="b")])], on_progress=told.append)
    assert told == ["report: case 1 of 2", "report: case 2 of 2"]


def test_json_has_the_columns_of_the_summary() -> None:
    found = summary_json([runs.run()])
    (cell,) = found["cells"]
    assert [*cell] == [*(column.name for column in SUMMARY_COLUMNS), "state"]
    assert (cell["n"], cell["case"], cell["params"]) == (8, "capital", None)
    assert found["verdict"]["level"] == "good"


def test_markdown_of_very_many_cells_is_cut() -> None:
    text = markdown([run_of("x", runs.META, [runs.record(case=f"c{n}") for n in range(230)])])
    assert text.count("\n| ") == 201
    assert text.endswith("30 more cells are in summary.csv.\n")


@pytest.mark.parametrize("text", runs.HOSTILE, ids=range(len(runs.HOSTILE)))
def test_hostile_text_is_inert_in_files(tmp_path: Path, text: str) -> None:
    rows, meta = runs.hostile(text)
    run = run_of(text, {**runs.META, **meta}, rows, [runs.hardware(case=text)])
    write_csv(tmp_path, run, rows)
    for path in tmp_path.glob("*.csv"):
        content = path.read_bytes().decode()
        assert not {*content} & {*"\x00\x07\x1b\x9b\r\t\u202e\u2066\u2028\ufeff"}
        for row in csv.reader(content.splitlines()):
            for cell in row:
                try:
                    float(cell)
                except ValueError:
                    assert not cell.lstrip().startswith(("=", "+", "-", "@"))
    shown = markdown([run])
    assert not {*shown} & {*"\x00\x07\x1b\x9b\r\t\u202e\u2066\u2028\ufeff"}
    for active in ("<script", "<img", "<!--", "<details", "](", "![", "@every", "@team", " #1", "::set", "\n::", "https://",
                   "www.", "GH-1", "```", "~~~"):  # fmt: skip
        assert active not in shown
    assert not runs.unseen(shown)
    assert {line.count("|") for line in shown.splitlines() if line.startswith("| ")} == {10}
    json.dumps(summary_json([run]), allow_nan=False)
    assert {*KEY} <= set(summary_json([run])["cells"][0])
