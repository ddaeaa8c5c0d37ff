from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_modellens.errors import StorageError
from pytest_modellens.storage import RunInfo, find_run, list_runs, read_run

STAMP = "20261121T203000Z"


def store(results: Path, name: str, *, meta: Any = None, lines: str | bytes = b"") -> Path:
    folder = results / name
    folder.mkdir(parents=True)
    if meta is not None:
        (folder / "run.json").write_text(json.dumps(meta))
    (folder / "requests.jsonl").write_bytes(lines.encode() if isinstance(lines, str) else lines)
    return folder


def test_run_is_read_with_its_records(tmp_path: Path) -> None:
    folder = store(tmp_path, "a", meta={"schema_version": 1, "name": "a"}, lines='{"n":1}\n\n{"n":2}\n')
    run = read_run(folder)
    assert (run.folder, run.meta["name"], run.records, run.problems) == (folder, "a", [{"n": 1}, {"n": 2}], [])


def test_run_killed_while_it_wrote_has_a_problem_and_all_whole_records(tmp_path: Path) -> None:
    run = read_run(store(tmp_path, "a", meta={}, lines='{"n":1}\n{"n":2,"resp'))
    assert run.records == [{"n": 1}]
    assert run.problems == [f"{tmp_path}/a/requests.jsonl:2: is cut off (the run was killed while it wrote)"]


def test_run_whose_last_line_only_lacks_its_end_is_whole(tmp_path: Path) -> None:
    run = read_run(store(tmp_path, "a", meta={}, lines='{"n":1}\n{"n":2}'))
    assert (run.records, run.problems) == ([{"n": 1}, {"n": 2}], [])


@pytest.mark.parametrize(
    "garbage", [b"hello", b"\x00\x00\x00", b'{"a":"\xff"}', b"[1]", b"[" * 5000, b'{"n":3}{"n":4}']
)
def test_run_with_garbage_names_the_line_and_reads_the_rest(tmp_path: Path, garbage: bytes) -> None:
    run = read_run(store(tmp_path, "a", meta={}, lines=b'{"n":1}\n' + garbage + b'\n{"n":2}\n'))
    assert run.records == [{"n": 1}, {"n": 2}]
    assert run.problems == [f"{tmp_path}/a/requests.jsonl:2: is not a JSON object; left out"]


def test_run_without_run_json_is_read(tmp_path: Path) -> None:
    run = read_run(store(tmp_path, "a", lines='{"n":1}\n'))
    assert (run.meta, run.records) == ({}, [{"n": 1}])
    assert run.problems == [f"{tmp_path}/a/run.json: cannot be read (No such file or directory)"]


def test_run_without_requests_is_read(tmp_path: Path) -> None:
    folder = store(tmp_path, "a", meta={"name": "a"})
    (folder / "requests.jsonl").unlink()
    run = read_run(folder)
    assert (run.meta, run.records) == ({"name": "a"}, [])
    assert run.problems == [f"{folder}/requests.jsonl: cannot be read (No such file or directory)"]


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_run_with_a_damaged_run_json_is_read(tmp_path: Path, text: str) -> None:
    folder = store(tmp_path, "a", lines='{"n":1}\n')
    (folder / "run.json").write_text(text)
    run = read_run(folder)
    assert (run.meta, run.records) == ({}, [{"n": 1}])
    assert run.problems == [f"{folder}/run.json: is not a JSON object; what was run is not known"]


@pytest.mark.parametrize(
    ("meta", "lines", "file", "seen"),
    [
        ({"schema_version": 2}, "", "run.json", "2"),
        ({"schema_version": "x"}, "", "run.json", "'x'"),
        ({}, '{"schema_version":3}\n', "requests.jsonl", "3"),
    ],
)
def test_run_of_a_newer_version_is_refused(tmp_path: Path, meta: Any, lines: str, file: str, seen: str) -> None:
    with pytest.raises(StorageError) as caught:
        read_run(store(tmp_path, "a", meta=meta, lines=lines))
    assert str(caught.value) == (
        f"{tmp_path}/a/{file}: written by a newer pytest-modellens "
        f"(schema_version {seen}, this one reads up to 1; upgrade it)"
    )


def test_run_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="none: no such run"):
        read_run(tmp_path / "none")


def test_runs_are_listed_newest_first_and_other_things_are_not(tmp_path: Path) -> None:
    for name in (f"{STAMP}-a", f"{STAMP}-a-10", f"{STAMP}-a-2", "20251121T203000Z-z", "baselines"):
        store(tmp_path, name)
    (tmp_path / f"{STAMP}-file").write_text("")
    assert [info.name for info in list_runs(tmp_path)] == [
        f"{STAMP}-a-10",
        f"{STAMP}-a-2",
        f"{STAMP}-a",
        "20251121T203000Z-z",
    ]


def test_runs_of_a_folder_that_does_not_exist_are_none(tmp_path: Path) -> None:
    assert list_runs(tmp_path / "none") == []


def test_runs_of_a_folder_that_may_not_be_read_are_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(StorageError, match=r"cannot be read \(Permission denied\)"):
        list_runs(tmp_path)


def test_run_that_ended_is_listed_from_its_run_json(tmp_path: Path) -> None:
    counts = {"requests": 9, "ok": 7, "errors": 2}
    folder = store(tmp_path, f"{STAMP}-a", meta={"started_at": "s", "ended_at": "e", "counts": counts, "more": []})
    assert list_runs(tmp_path) == [RunInfo(folder, folder.name, "s", 9, 7, 2, is_finished=True)]


@pytest.mark.parametrize("meta", [None, {"ended_at": None, "counts": {"requests": 0, "ok": 0, "errors": 0}}, [1]])
def test_run_that_was_killed_is_listed_by_counting_its_records(tmp_path: Path, meta: Any) -> None:
    lines = '{"ok":true,"phase":"warmup"}\n{"ok":true}\n{"ok":false,"error":"x"}\n{"x":1}\n{"ok":tr'
    folder = store(tmp_path, f"{STAMP}-a", meta=meta, lines=lines)
    assert list_runs(tmp_path) == [RunInfo(folder, folder.name, None, 2, 1, 1, is_finished=False)]


def test_hundreds_of_runs_are_listed_at_once(tmp_path: Path) -> None:
    counts = {"requests": 9, "ok": 7, "errors": 2}
    for number in range(300):
        store(tmp_path, f"{STAMP}-a-{number}", meta={"ended_at": "e", "counts": counts, "x": ["y" * 100] * 100})
    before = time.perf_counter()
    assert len(list_runs(tmp_path)) == 300
    assert time.perf_counter() - before < 60  # about 0.1 s; what grows with the square would take longer


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Three runs."""
    for name in (f"{STAMP}-smoke", f"{STAMP}-load", "20261120T080000Z-smoke"):
        store(tmp_path, name, meta={})
    return tmp_path


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f"{STAMP}-smoke", f"{STAMP}-smoke"),
        ("20261120", "20261120T080000Z-smoke"),
        ("load", f"{STAMP}-load"),
        ("latest", f"{STAMP}-smoke"),
    ],
)
def test_run_is_found_by_name_beginning_end_and_latest(results: Path, text: str, name: str) -> None:
    assert find_run(results, text) == results / name


@pytest.mark.parametrize("below", ["", "run.json", "requests.jsonl"])
def test_run_is_found_by_its_path(results: Path, below: str) -> None:
    folder = results / f"{STAMP}-load"
    assert find_run(Path("elsewhere"), str(folder / below)) == folder


def test_run_whose_name_begins_another_is_found_by_its_whole_name(results: Path) -> None:
    store(results, f"{STAMP}-smoke-2", meta={})
    assert find_run(results, f"{STAMP}-smoke") == results / f"{STAMP}-smoke"


def test_ambiguous_run_names_those_that_match(results: Path) -> None:
    with pytest.raises(StorageError) as caught:
        find_run(results, "smoke")
    assert str(caught.value) == (
        f"{results}: 'smoke' matches 2 runs ({STAMP}-smoke, 20261120T080000Z-smoke; give more of one)"
    )


def test_unknown_run_names_the_nearest(results: Path) -> None:
    with pytest.raises(StorageError) as caught:
        find_run(results, "20261121T203000Z-laod")
    assert str(caught.value).startswith(f"{results}: no run '20261121T203000Z-laod' (nearest: {STAMP}-load, ")


@pytest.mark.parametrize("text", ["q", ""])
def test_run_unlike_all_others_names_the_newest(results: Path, text: str) -> None:
    for number in range(5):
        store(results, f"2025010{number}T000000Z-x", meta={})
    with pytest.raises(StorageError) as caught:
        find_run(results, text)
    assert f"no run {text!r} (nearest: {STAMP}-smoke, {STAMP}-load, " in str(caught.value)
    assert str(caught.value).endswith(", …)")


def test_run_is_not_found_where_there_are_none(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"holds no runs \(looked for 'latest'; run a suite first\)"):
        find_run(tmp_path, "latest")
