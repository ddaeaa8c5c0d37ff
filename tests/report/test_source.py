"""Runs as reports read them, whole or not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.errors import StorageError
from pytest_modellens.report.cells import KEPT
from pytest_modellens.report.source import loads_of, read, run_of
from pytest_modellens.report.summary import summarise
from tests.report import runs

if TYPE_CHECKING:
    from pathlib import Path


def test_run_of_a_folder_is_the_run_of_its_records(tmp_path: Path) -> None:
    rows = [*runs.records(50), runs.failure(50)]
    found = read(runs.folder(tmp_path, rows))
    assert found.summaries == run_of("x", runs.META, rows, [runs.hardware()]).summaries
    assert [cell.key for cell in found.summaries] == [cell.key for cell in summarise(rows)]
    assert (found.n_records, found.is_finished, found.problems) == (51, True, [])
    assert found.summaries[0].hardware == {"cpu_percent_peak": 53.0}


def test_numbers_are_over_all_requests_and_few_are_kept(tmp_path: Path) -> None:
    found = read(runs.folder(tmp_path, runs.records(KEPT + 60)))
    (cell,) = found.cells.values()
    assert (found.summaries[0].ttft_ms.n, len(cell.averaged)) == (KEPT + 60, KEPT)


def test_late_answers_that_are_not_as_expected_are_kept_once(tmp_path: Path) -> None:
    rows = [runs.record(n, expect_failures=["wrong"] if n in {3, KEPT + 5} else []) for n in range(KEPT + 9)]
    for found in (read(runs.folder(tmp_path, rows)), run_of("x", {}, rows)):
        (cell,) = found.cells.values()
        kept = [record["round"] for record in (*cell.averaged, *cell.failed)]
        assert kept == [*range(KEPT), KEPT + 5]


def test_run_that_was_killed_is_read_up_to_there(tmp_path: Path) -> None:
    folder = runs.folder(tmp_path, ended_at=None)
    with (folder / "requests.jsonl").open("a") as file:
        file.write('{"suite": "half')
    found = read(folder)
    assert (found.n_records, found.is_finished) == (8, False)
    assert found.problems == [f"{folder}/requests.jsonl:9: is cut off (the run was killed while it wrote)"]


@pytest.mark.parametrize("change", [{"ttft_ms": "fast"}, {"params": []}, {"ok": None}, {"itl_ms": [None, 1.0]}])
def test_lines_that_are_no_records_are_left_out(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = runs.folder(tmp_path)
    with (folder / "requests.jsonl").open("a") as file:
        file.write(json.dumps(runs.record() | change) + "\n[1]\n")
    found = read(folder)
    assert found.n_records == 8
    assert found.problems == [
        f"{folder}/requests.jsonl:10: is not a JSON object; left out",
        f"{folder}/requests.jsonl: 1 lines are no records; left out",
    ]


def test_progress_is_told_now_and_then(tmp_path: Path) -> None:
    told: list[int] = []
    folder = runs.folder(tmp_path, [])
    line = json.dumps(runs.record()) + "\n"
    (folder / "requests.jsonl").write_text(line * 40_001)
    read(folder, on_progress=told.append)
    assert [count // 20_000 for count in told] == [1, 2]


def test_missing_files_are_told(tmp_path: Path) -> None:
    folder = runs.folder(tmp_path)
    for name in ("run.json", "requests.jsonl", "hardware.jsonl"):
        (folder / name).unlink()
    found = read(folder)
    assert (found.summaries, found.hardware, found.is_finished) == ([], [], False)
    assert [problem.partition(": ")[2] for problem in found.problems] == [
        "cannot be read (No such file or directory)",
        "cannot be read (No such file or directory)",
    ]


def test_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such run"):
        read(tmp_path / "nothing")


def test_run_of_a_newer_version_is_an_error(tmp_path: Path) -> None:
    folder = runs.folder(tmp_path)
    with (folder / "requests.jsonl").open("a") as file:
        file.write(json.dumps(runs.record() | {"schema_version": 99}) + "\n")
    with pytest.raises(StorageError, match="written by a newer pytest-modellens"):
        read(folder)


@pytest.mark.parametrize("damage", [None, 7, "x", {}, [None, 7, {}, {"suite": "a"}]])
def test_damaged_parts_of_the_run_are_left_out(damage: Any) -> None:
    found = run_of("x", {"cells": damage, "asked": damage, "failed": damage}, runs.records(2), [{"series": 7}])
    (cell,) = found.summaries
    assert (cell.load, found.hardware, found.asked(cell.key), found.failed(cell.key)) == (None, [], {}, None)
    assert loads_of({"cells": damage}) == []


def test_run_says_what_was_asked_and_what_failed() -> None:
    meta = {"asked": [{**runs.KEY, "asked": {"prompt": "hi"}}], "failed": [{**runs.KEY, "why": "too slow"}]}
    found = run_of("x", meta, runs.records(2))
    key = found.summaries[0].key
    assert found.asked(key) == {"prompt": "hi"}
    assert found.failed(key) == "too slow"


def test_nan_of_a_foreign_adapter_is_in_no_statistic() -> None:
    (cell,) = run_of("x", {}, [runs.record(ttft_ms=float("nan")), runs.record(ttft_ms=5.0)]).summaries
    assert (cell.ttft_ms.n, cell.ttft_ms.mean) == (1, 5.0)
